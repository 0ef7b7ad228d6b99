//! Checkpoints of the Hugging Face hub: `hf://owner/repo[/file][@revision]`.

use std::path::PathBuf;

use crate::{Error, Result};

/// The scheme of hub addresses.
const SCHEME: &str = "hf://";

/// Names of weights on the hub, in the order in which they are looked for.
pub(super) const FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// A place on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `owner/repo`.
    repo: String,
    /// File in it; the first of [`FILES`] that is there if none is named.
    file: Option<String>,
    /// Branch, tag or commit. Default `main`.
    revision: String,
}

impl Address {
    /// The address in `path`; `None` if it is not one of the hub.
    ///
    /// # Errors
    /// [`Error::Format`] for a hub address without owner and repository.
    pub(super) fn parse(path: &str) -> Result<Option<Self>> {
        let Some(rest) = path.strip_prefix(SCHEME) else { return Ok(None) };
        let (place, revision) = rest.rsplit_once('@').unwrap_or((rest, "main"));
        let mut parts = place.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(owner), Some(repo), file) if !owner.is_empty() && !repo.is_empty() => {
                Ok(Some(Self {
                    repo: format!("{owner}/{repo}"),
                    file: file.filter(|file| !file.is_empty()).map(ToString::to_string),
                    revision: revision.into(),
                }))
            }
            _ => Err(Error::Format {
                path: path.into(),
                what: "expected hf://owner/repo[/file][@revision]".into(),
            }),
        }
    }

    /// The file on this machine, from the hub's cache or downloaded into it; the shards of an index and the
    /// `config.json` come with it.
    ///
    /// # Errors
    /// [`Error::Format`] with what the hub or the network says.
    #[cfg(feature = "hub")]
    pub(super) fn fetch(&self) -> Result<PathBuf> {
        super::hub_files::Source::of_environment().fetch(self)
    }

    /// `owner/repo`.
    #[cfg(feature = "hub")]
    pub(super) fn repo(&self) -> &str {
        &self.repo
    }

    /// The file asked for.
    #[cfg(feature = "hub")]
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Branch, tag or commit.
    #[cfg(feature = "hub")]
    pub(super) fn revision(&self) -> &str {
        &self.revision
    }

    /// Built without the feature: an error that names it.
    ///
    /// # Errors
    /// [`Error::Format`], always.
    #[cfg(not(feature = "hub"))]
    pub(super) fn fetch(&self) -> Result<PathBuf> {
        Err(Error::Format {
            path: self.to_string().into(),
            what: "built without the feature `hub`: add it, or download the file".into(),
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        write!(f, "@{}", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |path: &str| Address::parse(path).unwrap().unwrap().to_string();
        assert_eq!(parse("hf://a/b"), "hf://a/b@main");
        assert_eq!(parse("hf://a/b/c/d.pth@v1"), "hf://a/b/c/d.pth@v1");
        assert_eq!(Address::parse("runs/a/b").unwrap(), None);
        let text = Address::parse("hf://a").unwrap_err().to_string();
        assert_eq!(text, "hf://a: expected hf://owner/repo[/file][@revision]");
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_the_error_names_it() {
        let text = crate::checkpoint::Checkpoint::open("hf://a/b").unwrap_err().to_string();
        let want = "hf://a/b@main: built without the feature `hub`: add it, or download the file";
        assert_eq!(text, want);
    }
}
