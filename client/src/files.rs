//! Directories of ours and files that are replaced whole. Never leaves half a file, nor one that
//! others could read for a moment.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use crate::error::Error;

/// For files that hold secrets.
pub const PRIVATE: u32 = 0o600;

const PRIVATE_DIR: u32 = 0o700;

/// Where profiles are: `~/.config/postern`.
pub fn config_dir() -> Result<PathBuf, Error> {
    Ok(project()?.config_dir().to_owned())
}

/// Where the last error is: `~/.local/state/postern`.
pub fn state_dir() -> Result<PathBuf, Error> {
    let project = project()?;
    Ok(project.state_dir().unwrap_or(project.data_local_dir()).to_owned())
}

/// Where ssh's own configuration is: `~/.ssh`.
pub fn ssh_dir() -> Result<PathBuf, Error> {
    let base = BaseDirs::new().ok_or_else(homeless)?;
    Ok(base.home_dir().join(".ssh"))
}

fn project() -> Result<ProjectDirs, Error> {
    ProjectDirs::from("", "", "postern").ok_or_else(homeless)
}

fn homeless() -> Error {
    Error::Local("this user has no home directory; set HOME".to_owned())
}

/// Makes a directory, and those above it, for this user alone; leaves one that exists as it is.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(dir)
}

/// The mode of a file, if it exists.
pub fn mode(file: &Path) -> Option<u32> {
    let metadata = fs::metadata(file).ok()?;
    Some(metadata.permissions().mode() & 0o7777)
}

/// Puts a file in the place of another, through symbolic links.
pub fn replace(file: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let file = match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        found => found?,
    };
    let dir = file.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(contents)?;
    new.as_file().set_permissions(Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    new.persist(&file)?;
    // The name is on disk only when its directory is.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_behind_its_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        replace(&file, b"one", PRIVATE).expect("written");
        assert_eq!(mode(&file), Some(0o600));

        symlink("file", &link).expect("a link");
        replace(&link, b"two", 0o644).expect("written");
        assert_eq!(fs::read(&file).expect("it exists"), b"two");
        assert_eq!(mode(&file), Some(0o644));
        assert!(fs::symlink_metadata(&link).expect("it exists").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2, "nothing is left");
    }

    #[test]
    fn directories_are_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("a/b");
        make_dir(&inner).expect("made");
        assert_eq!((mode(&inner), mode(&dir.path().join("a"))), (Some(0o700), Some(0o700)));
    }
}
