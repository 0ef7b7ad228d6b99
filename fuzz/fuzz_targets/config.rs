//! Configurations, as JSON and as TOML: what is accepted is bounded, and written and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pad_adapter::vit::ViTConfig;
use pad_data::image::DecodeOptions;
use pad_ssl::MaeConfig;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = serde_json::from_str::<ViTConfig>(text) {
        bounded(&config);
    }
    if let Ok(config) = toml::from_str::<ViTConfig>(text) {
        bounded(&config);
    }
    if let Ok(options) = toml::from_str::<DecodeOptions>(text) {
        let text = toml::to_string(&options).unwrap();
        assert_eq!(toml::from_str::<DecodeOptions>(&text).unwrap(), options);
    }
    if let Ok(config) = serde_json::from_str::<MaeConfig>(text)
        && config.validate().is_ok()
    {
        bounded(&config.encoder);
    }
});

fn bounded(config: &ViTConfig) {
    let _ = (config.hidden_dim(), config.patch_values(), config.grid(), config.pos_table_grid());
    if config.validate().is_err() {
        return;
    }
    let patches = config.pos_table_grid().unwrap().len();
    assert!(patches * config.embed_dim <= 1 << 28 && config.depth <= 1 << 10);
    let json = serde_json::to_string(config).unwrap();
    assert_eq!(serde_json::from_str::<ViTConfig>(&json).unwrap(), *config);
}
