//! One deliberate use of every entry of `clippy.toml`: `#[expect]` fails where an entry has gone
//! stale (a renamed function, a typing error), which `allow-invalid` would hide.
#![allow(dead_code)]

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail,
};
use candle_nn::VarBuilder;

macro_rules! deliberate {
    ($($name:ident($($arg:ident: $ty:ty),*) $use:expr;)*) => {$(
        #[expect(clippy::disallowed_methods, reason = "keeps the list in clippy.toml alive")]
        fn $name($($arg: $ty),*) -> Result<()> {
            $use.map(drop)
        }
    )*};
}

deliberate! {
    layer_norm(x: &Tensor) candle_nn::ops::layer_norm(x, x, x, 0.0);
    softmax_last_dim(x: &Tensor) candle_nn::ops::softmax_last_dim(x);
    rms_norm(x: &Tensor) candle_nn::ops::rms_norm(x, x, 0.0);
    sdpa(x: &Tensor) candle_nn::ops::sdpa(x, x, x, None, false, 1.0, 1.0);
    rope(x: &Tensor) candle_nn::rotary_emb::rope(x, x, x);
    rope_i(x: &Tensor) candle_nn::rotary_emb::rope_i(x, x, x);
    rope_thd(x: &Tensor) candle_nn::rotary_emb::rope_thd(x, x, x);
    rms_norm_module(vb: VarBuilder) candle_nn::rms_norm(1, 1e-6, vb);
    layer_norm_new(x: &Tensor) Ok::<_, candle_core::Error>(candle_nn::LayerNorm::new(x.clone(), x.clone(), 1e-6));
    rms_norm_new(x: &Tensor) Ok::<_, candle_core::Error>(candle_nn::RmsNorm::new(x.clone(), 1e-6));
    dropout(x: &Tensor) candle_nn::ops::dropout(x, 0.5);
    layer_norm_module(vb: VarBuilder) candle_nn::layer_norm(1, 1e-6, vb);
    no_backward_1(x: &Tensor) x.apply_op1_no_bwd(&Nothing);
    no_backward_2(x: &Tensor) x.apply_op2_no_bwd(x, &Nothing);
    no_backward_3(x: &Tensor) x.apply_op3_no_bwd(x, x, &Nothing);
    rand() Tensor::rand(0_f32, 1.0, 1, &Device::Cpu);
    randn() Tensor::randn(0_f32, 1.0, 1, &Device::Cpu);
    upsample_nearest2d(x: &Tensor) x.upsample_nearest2d(1, 1);
    upsample_bilinear2d(x: &Tensor) x.upsample_bilinear2d(1, 1, false);
    new_cuda() Device::new_cuda(0);
    cuda_if_available() Device::cuda_if_available(0);
    new_cuda_with_stream() Device::new_cuda_with_stream(0);
    new_metal() Device::new_metal(0);
    metal_if_available() Device::metal_if_available(0);
}

/// An operation of each arity that does nothing.
struct Nothing;

impl CustomOp1 for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("nothing")
    }
}

impl CustomOp2 for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("nothing")
    }
}

impl CustomOp3 for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("nothing")
    }
}
