//! The command, run on a database of its own.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use xtask::wait;

/// For how long something is waited for: far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const KEY: &str = "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66";
pub(crate) const TOKEN: &str = "0123456789abcdef0123";

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Said {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.output).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

pub(crate) struct Keygate {
    folder: TempDir,
    variables: BTreeMap<&'static str, OsString>,
}

impl Keygate {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let database = format!("sqlite://{}", folder.path().join("keygate.db").display());
        let variables = BTreeMap::from([
            ("KEYGATE_DATABASE_URL", database),
            ("KEYGATE_LISTEN", "127.0.0.1:0".to_owned()),
            ("KEYGATE_EDGE_LISTEN", "127.0.0.1:0".to_owned()),
            ("KEYGATE_SECRET_KEY", KEY.to_owned()),
            ("KEYGATE_EDGE_TOKEN", TOKEN.to_owned()),
        ]);
        let variables =
            variables.into_iter().map(|(name, value)| (name, OsString::from(value))).collect();
        Self { folder, variables }
    }

    pub(crate) fn migrated() -> Self {
        let it = Self::new();
        let done = it.run(&["migrate"]);
        assert_eq!(done.code, 0, "{done:?}");
        it
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.set_raw(name, value.into());
    }

    pub(crate) fn set_raw(&mut self, name: &'static str, value: OsString) {
        self.variables.insert(name, value);
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn variables(&self) -> &BTreeMap<&'static str, OsString> {
        &self.variables
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let done = self.command(arguments).output().expect("it runs");
        Said {
            code: done.status.code().expect("an exit code"),
            output: String::from_utf8(done.stdout).expect("text"),
            errors: String::from_utf8(done.stderr).expect("text"),
        }
    }

    /// Runs it with something to read.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut stdin = process.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        let done = process.wait_with_output().expect("it runs");
        Said {
            code: done.status.code().expect("an exit code"),
            output: String::from_utf8(done.stdout).expect("text"),
            errors: String::from_utf8(done.stderr).expect("text"),
        }
    }

    /// Runs it with nobody to read what it answers.
    pub(crate) fn run_unread(&self, arguments: &[&str]) -> Said {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(arguments);
        let process = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
        let done = process.wait_with_output().expect("it runs");
        Said {
            code: done.status.code().expect("an exit code"),
            output: String::new(),
            errors: String::from_utf8(done.stderr).expect("text"),
        }
    }

    /// Makes a key; gives its id and itself.
    pub(crate) fn make_key(&self, arguments: &[&str]) -> (String, String) {
        let mut all = vec!["keys", "create", "--json", "--name", "a"];
        all.extend_from_slice(arguments);
        let key = self.run(&all).json();
        let text = |field: &str| key[field].as_str().expect("text").to_owned();
        (text("key_id"), text("api_key"))
    }

    /// Starts the service, and does not wait.
    pub(crate) fn begin_to_serve(&self, arguments: &[&str]) -> Service {
        let log = self.folder.path().join("serve.log");
        let file = std::fs::File::create(&log).expect("a log");
        let mut all = vec!["serve"];
        all.extend_from_slice(arguments);
        let process =
            self.command(&all).stdout(Stdio::null()).stderr(file).spawn().expect("it starts");
        Service { process, log, admin: String::new(), edge: String::new() }
    }

    /// Starts the service, and waits until it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Service {
        let mut service = self.begin_to_serve(arguments);
        let ready = service.wait_for("keygate is ready");
        // Text: admin=127.0.0.1:1; JSON: "admin":"127.0.0.1:1".
        let address = |name: &str| {
            let start =
                ready.find(&format!("{name}=")).or_else(|| ready.find(&format!("\"{name}\":")));
            let rest = &ready[start.expect("an address")..];
            let start = rest.find(|c: char| c.is_ascii_digit()).expect("an address");
            rest[start..].split([' ', '"', ',']).next().expect("an address").to_owned()
        };
        service.admin = address("admin");
        service.edge = address("edge");
        service
    }
}

pub(crate) struct Service {
    process: Child,
    log: PathBuf,
    pub(crate) admin: String,
    pub(crate) edge: String,
}

impl Service {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Looks until there is something to see; when there is nothing for a while, the test fails and
    /// shows the log.
    pub(crate) fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let seen = wait::until(PATIENCE, || Ok(look())).expect("not interrupted");
        seen.unwrap_or_else(|| panic!("still not after {PATIENCE:?}: {what}\n{}", self.log()))
    }

    /// Waits until `/metrics` has this in it.
    pub(crate) fn wait_for_metric(&self, shown: &str) {
        self.eventually(shown, || {
            http(&self.admin, "GET", "/metrics", "", "").1.contains(shown).then_some(())
        });
    }

    /// The first line with these words, as soon as it is there.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            let ended = self.process.try_wait().expect("a state");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(15) {
            if let Some(status) = self.process.try_wait().expect("a state") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not end: {}", self.log())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request and reads the answer: status and body.
pub(crate) fn http(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, body.to_owned())
}
