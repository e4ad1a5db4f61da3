//! The secret that keys the hashes of API keys: from the environment, or from a file that is made
//! once beside the journal folder.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tollgate_model::{IdGen, Pepper};

/// Shortest pepper, in bytes.
const PEPPER_BYTES_MIN: usize = 16;

/// Finds the pepper, and makes its file where there is none.
///
/// # Errors
/// When the file cannot be read or made, or the pepper is too short.
pub fn load(journal_dir: &Path, ids: &dyn IdGen) -> anyhow::Result<Pepper> {
    match find(journal_dir)? {
        Some(pepper) => Ok(pepper),
        None => make(&path_beside(journal_dir), ids),
    }
}

/// Finds the pepper; `None` where none was ever made.
///
/// # Errors
/// When the file cannot be read, or the pepper is too short.
pub fn find(journal_dir: &Path) -> anyhow::Result<Option<Pepper>> {
    if let Ok(text) = std::env::var("TOLLGATE_KEY_PEPPER") {
        ensure!(
            text.len() >= PEPPER_BYTES_MIN,
            "TOLLGATE_KEY_PEPPER has fewer than {PEPPER_BYTES_MIN} characters"
        );
        return Ok(Some(Pepper::new(text.into_bytes())));
    }
    let path = path_beside(journal_dir);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let text = text.trim();
            ensure!(
                text.len() >= PEPPER_BYTES_MIN,
                "{} is damaged: it has fewer than {PEPPER_BYTES_MIN} characters; restore it from a \
                 backup, because without it no key is known",
                path.display()
            );
            Ok(Some(Pepper::new(text.as_bytes().to_vec())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn path_beside(journal_dir: &Path) -> PathBuf {
    journal_dir
        .parent()
        .unwrap_or(Path::new("."))
        .join("pepper")
}

fn make(path: &Path, ids: &dyn IdGen) -> anyhow::Result<Pepper> {
    let mut random = [0u8; 32];
    ids.fill(&mut random);
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    // Written whole under another name first: a crash must not leave half a pepper behind.
    let draft = path.with_extension("new");
    let written = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&draft, path));
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(Pepper::new(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pepper_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let ids = tollgate_lifecycle::SystemIds;
        let first = load(&journal, &ids).unwrap();
        assert_eq!(
            load(&journal, &ids).unwrap().check_value(),
            first.check_value()
        );
        std::fs::write(folder.path().join("pepper"), "short").unwrap();
        assert!(
            load(&journal, &ids)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
