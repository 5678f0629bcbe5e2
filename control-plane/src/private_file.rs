//! Files for their owner's eyes only.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Makes a new file, to be written.
///
/// # Errors
/// When there is one already, or it cannot be made.
pub fn create_new(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create_new(true)).open(path)
}

/// Opens a file to add to it, and makes it if it is not there.
///
/// # Errors
/// When it cannot be made or opened.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().create(true).append(true)).open(path)
}

fn private(options: &mut OpenOptions) -> &OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
