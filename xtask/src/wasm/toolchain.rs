//! A compiler that can make WebAssembly: cargo's own, or Debian's.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{envoy, install, process, progress, workspace};

/// The target of the filter: no operating system, nothing but what Envoy gives.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages for it.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
/// The standard library's source, of the package rust-web-src.
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/Cargo.lock";

/// Who compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The cargo that runs this tool, with the target's standard library installed.
    Installed,
    /// Debian's compiler, which brings the standard library as source.
    Debian,
}

impl Toolchain {
    /// Finds one, and installs what is missing where that can be done. `KEYGATE_WASM_TOOLCHAIN`
    /// (`rustup` or `debian`) allows only one of them.
    ///
    /// # Errors
    /// When there is none; the message says what to install.
    pub fn find() -> Result<Self> {
        let forced = std::env::var("KEYGATE_WASM_TOOLCHAIN").unwrap_or_default();
        if !["", "rustup", "debian"].contains(&forced.as_str()) {
            bail!("KEYGATE_WASM_TOOLCHAIN is {forced:?}; it can be rustup or debian");
        }
        if forced != "debian" && (is_installed() || added_by_rustup()) {
            return Ok(Self::Installed);
        }
        if forced != "rustup" && (debian_is_installed() || debian_can_be_installed()) {
            return Ok(Self::Debian);
        }
        bail!(
            "no compiler for WebAssembly: run `rustup target add {TARGET}`, or on Debian \
             `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        );
    }

    /// A cargo command (`build`, `test`) of this compiler for the target, still without a package.
    ///
    /// # Errors
    /// When cargo does not tell its target folder.
    pub fn cargo(self, subcommand: &str) -> Result<Command> {
        match self {
            Self::Installed => {
                let mut cargo = workspace::cargo();
                cargo.args([subcommand, "--target", TARGET]);
                Ok(cargo)
            }
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo
                    .current_dir(workspace::root())
                    .args([subcommand, "--target", TARGET, "-Zbuild-std=std,panic_abort"])
                    .env("PATH", debian_path())
                    .env("RUSTC", "/usr/bin/rustc")
                    // -Zbuild-std is unstable; Debian's compiler is a stable one.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld")
                    .env("CARGO_TARGET_DIR", self.target_dir()?)
                    // The calling cargo's own: they would lead to the wrong compiler.
                    .env_remove("LD_LIBRARY_PATH")
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("CARGO");
                Ok(cargo)
            }
        }
    }

    /// Where it builds to. Two compilers in one folder would undo each other's work.
    ///
    /// # Errors
    /// When cargo does not tell.
    pub fn target_dir(self) -> Result<std::path::PathBuf> {
        let target = workspace::target_dir()?;
        Ok(match self {
            Self::Installed => target,
            Self::Debian => target.join("debian"),
        })
    }
}

fn is_installed() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.current_dir(workspace::root()).args(["--print", "target-libdir", "--target", TARGET]);
    process::capture(command).is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

fn added_by_rustup() -> bool {
    if envoy::on_path("rustup").is_none() {
        return false;
    }
    progress::step(&format!("rustup target add {TARGET}"));
    let mut command = Command::new("rustup");
    command.current_dir(workspace::root()).args(["target", "add", TARGET]);
    match process::capture(command) {
        Ok(_) => is_installed(),
        Err(error) => {
            progress::note(&format!("{error:#}"));
            false
        }
    }
}

fn debian_is_installed() -> bool {
    ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/bin/wasm-ld", DEBIAN_STD]
        .iter()
        .all(|file| Path::new(file).exists())
}

fn debian_can_be_installed() -> bool {
    if let Err(error) = install::debian_packages(&DEBIAN_PACKAGES) {
        progress::note(&format!("{error:#}"));
    }
    debian_is_installed()
}

fn debian_path() -> std::ffi::OsString {
    let mut path = std::ffi::OsString::from("/usr/bin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}
