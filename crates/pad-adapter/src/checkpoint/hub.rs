//! Addresses on the Hugging Face hub: `hf://owner/repo[/file][@revision]`.

use crate::{Error, Result};

/// The scheme of hub addresses.
const SCHEME: &str = "hf://";

/// A place on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `owner/repo`.
    repo: String,
    /// File in it; the first usual name that is there if none is given.
    file: Option<String>,
    /// Branch, tag or commit. Default `main`.
    revision: String,
}

impl Address {
    /// The address in `path`; `None` for a path without the hub's scheme.
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

    /// `owner/repo`.
    #[cfg(feature = "hub")]
    pub(super) fn repo(&self) -> &str {
        &self.repo
    }

    /// The file in the repository, if one is given.
    #[cfg(feature = "hub")]
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Branch, tag or commit.
    #[cfg(feature = "hub")]
    pub(super) fn revision(&self) -> &str {
        &self.revision
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
}
