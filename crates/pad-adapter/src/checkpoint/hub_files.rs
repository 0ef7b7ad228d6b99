//! Files of the Hugging Face hub, from its cache or downloaded into it.

use std::path::{Path, PathBuf};

use hf_hub::{
    Cache, CacheRepo, Repo, RepoType,
    api::sync::{ApiBuilder, ApiError, ApiRepo},
};

use super::{
    hub::Address,
    index::{CONFIG, FILES, PREPROCESSOR, shards},
};
use crate::{Error, Result};

/// The file of `address` on this machine, from the hub's cache or downloaded into it; the shards of
/// an index, `config.json` and `preprocessor_config.json` come with it.
///
/// # Errors
/// [`Error::Format`] with the error of the hub or the network.
pub(super) fn fetch(address: &Address) -> Result<PathBuf> {
    Source::of_environment().fetch(address)
}

/// Where files come from.
#[derive(Clone, Debug)]
struct Source {
    cache: Cache,
    /// Another address than the hub's own.
    endpoint: Option<String>,
    /// Whether only the cache is used.
    offline: bool,
}

/// Why a file is not there.
enum Refusal {
    /// The hub has no such file.
    Absent,
    /// A description of any other error.
    Other(String),
}

impl Source {
    /// As `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` say.
    fn of_environment() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
        let offline = matches!(offline.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Self { cache: Cache::from_env(), endpoint: std::env::var("HF_ENDPOINT").ok(), offline }
    }

    /// The weights of `address` on this machine.
    ///
    /// # Errors
    /// [`Error::Format`] with the error of the hub or the network.
    fn fetch(&self, address: &Address) -> Result<PathBuf> {
        let refuse = |what: String| Error::Format { path: address.to_string().into(), what };
        let (repo, revision) = (address.repo().to_string(), address.revision().to_string());
        let repo = Repo::with_revision(repo, RepoType::Model, revision);
        let files = Files {
            cached: self.cache.repo(repo.clone()),
            hub: if self.offline { None } else { Some(self.connect(repo).map_err(refuse)?) },
        };
        let wanted = address.file().map_or_else(|| FILES.to_vec(), |file| vec![file]);
        let mut found = None;
        for file in &wanted {
            match files.get(file) {
                Ok(path) => {
                    found = Some((file, path));
                    break;
                }
                Err(Refusal::Absent) => {}
                Err(Refusal::Other(what)) => return Err(refuse(what)),
            }
        }
        let Some((file, path)) = found else {
            let names = wanted.join(", ");
            return Err(refuse(if self.offline {
                format!("HF_HUB_OFFLINE is set and the cache holds no {names}")
            } else {
                format!("the hub holds no {names} there (or no such repository or revision)")
            }));
        };
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = |name: &str| Path::new(folder).join(name).to_string_lossy().into_owned();
        if file.ends_with(".index.json") {
            for shard in shards(&path)?.keys() {
                match files.get(&beside(shard)) {
                    Ok(_) => {}
                    Err(Refusal::Absent) => {
                        let what = format!("`{file}` names the file `{shard}`, which is absent");
                        return Err(refuse(what));
                    }
                    Err(Refusal::Other(what)) => return Err(refuse(what)),
                }
            }
        }
        // They tell heads, eps and input statistics; weights without them are read all the same.
        for settings in [CONFIG, PREPROCESSOR] {
            let _ = files.get(&beside(settings));
        }
        Ok(path)
    }

    fn connect(&self, repo: Repo) -> Result<ApiRepo, String> {
        let mut builder = ApiBuilder::from_cache(self.cache.clone());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let api = builder.build().map_err(|error| format!("the hub cannot be reached: {error}"))?;
        Ok(api.repo(repo))
    }
}

/// One repository at one revision.
struct Files {
    cached: CacheRepo,
    hub: Option<ApiRepo>,
}

impl Files {
    fn get(&self, file: &str) -> Result<PathBuf, Refusal> {
        if let Some(path) = self.cached.get(file) {
            return Ok(path);
        }
        let Some(hub) = &self.hub else { return Err(Refusal::Absent) };
        hub.download(file).map_err(|error| match error {
            ApiError::RequestError(error) if error.to_string().contains("404") => Refusal::Absent,
            other => Refusal::Other(format!("`{file}` cannot be fetched: {other}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn text(source: &Source, address: &str) -> String {
        let address = Address::parse(address).unwrap().unwrap();
        source.fetch(&address).unwrap_err().to_string()
    }

    /// A hub that answers every request with 404.
    fn empty_hub() -> String {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", server.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let answer =
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        endpoint
    }

    #[test]
    fn files_that_do_not_come() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_path_buf());
        let offline = Source { cache: cache.clone(), endpoint: None, offline: true };
        assert_eq!(
            text(&offline, "hf://a/b/c.pth"),
            "hf://a/b/c.pth@main: HF_HUB_OFFLINE is set and the cache holds no c.pth"
        );
        let empty = Source { endpoint: Some(empty_hub()), offline: false, ..offline.clone() };
        assert_eq!(
            text(&empty, "hf://a/b@v2"),
            "hf://a/b@v2: the hub holds no model.safetensors, model.safetensors.index.json, pytorch_model.bin, \
             pytorch_model.bin.index.json there (or no such repository or revision)"
        );
        // A port without a server.
        let endpoint = Some("http://127.0.0.1:9".to_string());
        let cut = text(&Source { endpoint, offline: false, ..offline }, "hf://a/b/c.pth");
        assert!(
            cut.starts_with("hf://a/b/c.pth@main: `c.pth` cannot be fetched: request error: "),
            "{cut}"
        );
    }

    #[test]
    fn the_cache_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("models--a--b");
        let snapshot = repo.join("snapshots/abc");
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(repo.join("refs/main"), "abc").unwrap();
        let index = r#"{"weight_map": {"x": "one.safetensors"}}"#;
        std::fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
        let cache = Cache::new(folder.path().to_path_buf());
        let source = Source { cache, endpoint: None, offline: true };
        assert_eq!(
            text(&source, "hf://a/b"),
            "hf://a/b@main: `model.safetensors.index.json` names the file `one.safetensors`, which is absent"
        );
        std::fs::write(snapshot.join("one.safetensors"), "").unwrap();
        let address = Address::parse("hf://a/b").unwrap().unwrap();
        let found = source.fetch(&address).unwrap();
        assert_eq!(found, snapshot.join("model.safetensors.index.json"));
    }
}
