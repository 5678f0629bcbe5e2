//! The file: three lines of text, then the copy as it is. `tail -n +4 FILE` gives the copy alone,
//! for whoever has no `keygate` at hand.
//!
//! ```text
//! keygate backup 1
//! {"made_at":…}        the manifest
//! 8f0c…                its HMAC under the secret key
//! ```

use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{BackupError, Manifest, Progress, Watcher, error::InFile, manifest::Mac};
use crate::{keys::digest::DigestKey, private_file};

const MAGIC: &str = "keygate backup 1";
/// The first word of what any version writes.
const ANY_VERSION: &str = "keygate backup ";
/// A manifest takes a few hundred bytes; what is longer is none.
const MAX_LINE: u64 = 64 * 1024;
/// Read and written at once.
const CHUNK: usize = 1024 * 1024;

/// The bytes of a file and their SHA-256 in hex.
pub(super) fn measure(path: &Path) -> Result<(u64, String), BackupError> {
    let mut file = File::open(path).in_file("reading", path)?;
    copy(&mut file, &mut io::sink(), None, &mut |_| {}).in_file("reading", path)
}

/// Copies all of it, and digests it by the way.
fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    of: Option<u64>,
    watcher: &mut Watcher<'_>,
) -> io::Result<(u64, String)> {
    let mut chunk = vec![0; CHUNK];
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        let count = from.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            return Ok((bytes, hex::encode(hasher.finalize())));
        };
        hasher.update(read);
        to.write_all(read)?;
        bytes += u64::try_from(count).unwrap_or(0);
        watcher(Progress::Copying { bytes, of });
    }
}

/// Writes a backup's file, and sees to it that it is on the disk.
pub(super) fn write(
    path: &Path,
    manifest: &Manifest,
    secret: &DigestKey,
    payload: &Path,
    watcher: &mut Watcher<'_>,
) -> Result<(), BackupError> {
    let line =
        serde_json::to_string(manifest).map_err(|error| BackupError::Foreign(error.to_string()))?;
    let mac = Mac::of(line.as_bytes(), secret);
    let mut from = File::open(payload).in_file("reading", payload)?;
    let mut file = private_file::create_new(path).in_file("writing", path)?;
    let head = format!("{MAGIC}\n{line}\n{mac}\n");
    let written = file.write_all(head.as_bytes());
    let written = written.and_then(|()| copy(&mut from, &mut file, Some(manifest.bytes), watcher));
    let (bytes, sha256) = written.in_file("writing", path)?;
    if (bytes, &sha256) != (manifest.bytes, &manifest.sha256) {
        return Err(BackupError::Damaged("the copy changed while it was written".to_owned()));
    }
    file.sync_all().in_file("writing", path)
}

/// A backup that is being read.
pub(super) struct Backup {
    pub(super) manifest: Manifest,
    line: String,
    mac: Mac,
    /// Where the copy begins.
    start: u64,
    path: PathBuf,
    rest: BufReader<File>,
}

impl Backup {
    /// Opens it, and reads what it says of itself. Whether that is true is not known yet.
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Missing(path.to_owned()));
            }
            opened => opened.in_file("reading", path)?,
        };
        let mut rest = BufReader::new(file);
        let mut next = || read_line(&mut rest).in_file("reading", path);
        let foreign = |what: &str| BackupError::Foreign(what.to_owned());
        let first = next()?.unwrap_or_default();
        if first != MAGIC {
            let newer = first.starts_with(ANY_VERSION);
            return Err(foreign(if newer {
                "another version has made it"
            } else {
                "it does not begin as one"
            }));
        }
        let line = next()?.ok_or_else(|| foreign("its manifest is missing"))?;
        let manifest = serde_json::from_str(&line)
            .map_err(|error| BackupError::Foreign(format!("its manifest: {error}")))?;
        let mac = next()?.as_deref().and_then(Mac::parse);
        let mac = mac.ok_or_else(|| foreign("its manifest is not signed"))?;
        let start = rest.stream_position().in_file("reading", path)?;
        Ok(Self { manifest, line, mac, start, path: path.to_owned(), rest })
    }

    /// Whether a holder of this secret key wrote the manifest.
    pub(super) fn is_signed_by(&self, secret: &DigestKey) -> bool {
        self.mac.is_of(self.line.as_bytes(), secret)
    }

    /// Takes the copy out, and holds it against the manifest.
    pub(super) fn extract(
        &mut self,
        to: &Path,
        watcher: &mut Watcher<'_>,
    ) -> Result<(), BackupError> {
        let mut file = private_file::create_new(to).in_file("writing", to)?;
        let done = self.copy_to(&mut file, watcher);
        self.compare(done.in_file("copying the backup to", to)?)?;
        file.sync_all().in_file("writing", to)
    }

    /// Holds the copy against the manifest, and leaves it where it is.
    pub(super) fn verify(&mut self, watcher: &mut Watcher<'_>) -> Result<(), BackupError> {
        let done = self.copy_to(&mut io::sink(), watcher);
        self.compare(done.in_file("reading", &self.path)?)
    }

    /// The copy itself, from its beginning on.
    pub(super) fn payload(&mut self) -> Result<&mut dyn Read, BackupError> {
        self.rest.seek(SeekFrom::Start(self.start)).in_file("reading", &self.path)?;
        Ok(&mut self.rest)
    }

    fn copy_to(
        &mut self,
        to: &mut dyn Write,
        watcher: &mut Watcher<'_>,
    ) -> io::Result<(u64, String)> {
        copy(&mut self.rest, to, Some(self.manifest.bytes), watcher)
    }

    fn compare(&self, (found, digest): (u64, String)) -> Result<(), BackupError> {
        let Manifest { bytes, sha256, .. } = &self.manifest;
        if found != *bytes {
            let text = format!("the copy in it has {found} bytes, and should have {bytes}");
            return Err(BackupError::Damaged(text));
        }
        if digest != *sha256 {
            return Err(BackupError::Damaged("its checksum is another one".to_owned()));
        }
        Ok(())
    }
}

/// A line without its end; none where there is none, or where it is too long or no text.
fn read_line(from: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    Ok(String::from_utf8(line).ok())
}
