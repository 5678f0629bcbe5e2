//! The server's programs, and the user that they have to run as.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{install, process};

/// Where Debian keeps each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user that Debian's package makes.
const USER: &str = "postgres";

/// The path of one of the server's programs, installed first when it is missing.
pub(super) fn path(name: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    install::debian_packages(&["postgresql"])?;
    match find(name) {
        Some(found) => Ok(found),
        None => bail!("{name} is missing (Debian: apt-get install postgresql)"),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    newest(Path::new(DEBIAN))
        .map(|version| version.join("bin").join(name))
        .filter(|program| program.is_file())
        .or_else(|| crate::envoy::on_path(name))
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|it| it.path()));
    versions.max_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.parse::<u32>().unwrap_or(0)
    })
}

/// The words before a program that make it run as a user it accepts: it refuses to run as root. It
/// still ends when this tool does, which a change of user would undo.
pub(super) fn unprivileged(program: &Path) -> Result<Vec<String>> {
    let program = program.display().to_string();
    if !rustix::process::geteuid().is_root() {
        return Ok(vec![program]);
    }
    let setpriv = install::program("setpriv", "util-linux")?.display().to_string();
    let words = ["--reuid", USER, "--regid", USER, "--clear-groups", "--pdeathsig", "QUIT"];
    let mut all = vec![setpriv];
    all.extend(words.map(str::to_owned));
    all.push(program);
    Ok(all)
}

/// Gives a folder to the user that the server runs as.
pub(super) fn hand_over(folder: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let id = |flag: &str| {
        let mut id = Command::new("id");
        id.args([flag, USER]);
        let said = process::capture(id)?;
        said.trim().parse::<u32>().context("a number of a user")
    };
    std::os::unix::fs::chown(folder, Some(id("-u")?), Some(id("-g")?))
        .with_context(|| format!("cannot give {} to {USER}", folder.display()))
}
