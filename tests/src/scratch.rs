//! A directory that vanishes with its test, and the random files that are sent to and fro.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use tempfile::TempDir;

pub const MIB: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::Builder::new().prefix("postern-").tempdir().expect("a scratch directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A directory inside.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("create a directory");
        path
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write a file");
        path
    }

    /// A file that does not compress, so that what arrives was carried.
    pub fn random_file(&self, name: &str, size: usize) -> PathBuf {
        let path = self.path(name);
        random_file(&path, size);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

pub fn random_file(path: &Path, size: usize) {
    let size = u64::try_from(size).expect("a size fits in 64 bits");
    let mut source = File::open("/dev/urandom").expect("open /dev/urandom").take(size);
    let mut file = File::create(path).expect("create a file");
    io::copy(&mut source, &mut file).expect("fill a file");
    file.flush().expect("write a file");
}

pub fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; MIB]);
    loop {
        match file.read(&mut buffer).expect("read a file") {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
