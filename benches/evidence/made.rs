//! Folders that are made once: links, rendered scenes, and beside each what it was made of.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};

use super::Result;

/// Checks that a folder, if it is there, was made of what `text` says; returns whether it was begun.
///
/// # Errors
/// Another text beside it, or none.
pub(crate) fn expect_made_of(folder: &Path, text: &str) -> Result<bool> {
    let path = record(folder);
    let file = path.display();
    match fs::read_to_string(&path) {
        Ok(found) if found == text => Ok(true),
        Ok(found) => {
            let other = |text: &str, of: &str| {
                let line = text.lines().find(|line| of.lines().all(|known| known != *line));
                line.unwrap_or("nothing").to_string()
            };
            let (expected, found) = (other(text, &found), other(&found, text));
            bail!("{file}: expected `{expected}`, found `{found}`: choose another --out")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure!(
                !folder.exists(),
                "{file}: missing beside its folder, which may be of other images: choose another --out"
            );
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| file.to_string()),
    }
}

/// Checks a folder as [`expect_made_of`] does, and writes the text down for one that will be made.
pub(crate) fn make_of(folder: &Path, text: &str) -> Result<()> {
    if expect_made_of(folder, text)? {
        return Ok(());
    }
    let path = record(folder);
    let named = || path.display().to_string();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(named)?;
    }
    pad::ops::fs::write_atomic_bytes(&path, text.as_bytes()).with_context(named)
}

fn record(folder: &Path) -> PathBuf {
    folder.with_extension("txt")
}

/// Images of two folders may have one name.
pub(crate) fn link_name(index: usize, path: &Path) -> String {
    let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into());
    format!("{index:06}_{name}")
}

/// Makes a folder of links; one with as many files is taken as it is.
pub(crate) fn link_all<'a>(
    folder: &Path,
    links: impl ExactSizeIterator<Item = (String, &'a PathBuf)>,
) -> Result<()> {
    let there = fs::read_dir(folder).map_or(0, Iterator::count);
    if there == links.len() {
        return Ok(());
    }
    let made = || folder.display().to_string();
    if there > 0 {
        bail!("{}: {there} files, expected {}: choose another --out", made(), links.len());
    }
    // Whole or absent.
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(made)?;
    }
    fs::create_dir_all(&part).with_context(made)?;
    for (name, path) in links {
        link(path, &part.join(name)).with_context(|| path.display().to_string())?;
    }
    fs::rename(&part, folder).with_context(made)
}

#[cfg(unix)]
pub(crate) fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
pub(crate) fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Writes rendered scenes as files.
pub(crate) fn render(folder: &Path, count: usize) -> Result<()> {
    use pad::data::scenes::{SceneConfig, Size, render};
    let there = fs::read_dir(folder).map_or(0, Iterator::count);
    if there == count {
        return Ok(());
    }
    if there > count {
        bail!("{}: {there} files, expected {count}: choose another --out", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let config = SceneConfig::new(Size::new(512, 640), 0);
    for index in 0..count {
        let path = folder.join(format!("{index:05}.png"));
        if path.is_file() {
            continue;
        }
        let scene = render(&config, index as u64)?;
        let (width, height) = (scene.size.width as u32, scene.size.height as u32);
        let picture = image::GrayImage::from_raw(width, height, scene.gray);
        let picture = picture.context("a scene of another size than it says")?;
        let part = path.with_extension("part.png");
        picture.save(&part)?;
        fs::rename(&part, &path)?;
    }
    Ok(())
}
