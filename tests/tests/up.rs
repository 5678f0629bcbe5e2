//! `cargo xtask up`, as a user runs it: from the first start in an empty folder to its end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Answer, Request, eventually, fresh_address, within};
use xtask::stack::{EchoServer, GIVEN_BINARIES, free_port};
use xtask::workspace;

/// Run alone, the first start builds the control plane and the filter.
const BUILD_AND_START: Duration = Duration::from_secs(15 * 60);

/// The `cargo xtask` program.
fn xtask() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = workspace::cargo().args(["build", "--quiet", "-p", "xtask"]).status().unwrap();
        assert!(built.success(), "xtask cannot be built");
        workspace::target_dir().unwrap().join("debug/xtask")
    })
}

/// A `cargo xtask up` of a test's own, in a folder of its own. Dropping it kills it.
struct Up {
    child: Child,
    dir: PathBuf,
    gateway_port: u16,
    admin_port: u16,
}

impl Up {
    /// Starts it and does not wait.
    fn spawn(dir: &Path, args: &[&str]) -> Self {
        Self::spawn_on(dir, free_port().unwrap(), free_port().unwrap(), args)
    }

    fn spawn_on(dir: &Path, gateway_port: u16, admin_port: u16, args: &[&str]) -> Self {
        let mut command = Command::new(xtask());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let of_tool =
                ["KEYGATE_CACHE", "KEYGATE_ENVOY", "KEYGATE_WASM_TOOLCHAIN", GIVEN_BINARIES];
            if name.starts_with("KEYGATE_") && !of_tool.contains(&name.as_ref()) {
                command.env_remove(name.as_ref());
            }
        }
        let output = |name: &str| File::create(dir.join(name)).unwrap();
        let child = command
            .arg("up")
            .args(["--gateway-port", &gateway_port.to_string()])
            .args(["--admin-port", &admin_port.to_string()])
            .arg("--dir")
            .arg(dir.join("keygate"))
            .args(args)
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        Self { child, dir: dir.to_owned(), gateway_port, admin_port }
    }

    /// Starts it and waits until it has written `ready.json`.
    fn start(dir: &Path, args: &[&str]) -> (Self, Value) {
        let mut up = Self::spawn(dir, args);
        let ready = within(BUILD_AND_START, "ready.json is there", || {
            assert!(up.child.try_wait().unwrap().is_none(), "it ended: {}", up.stderr());
            fs::read(up.folder().join("ready.json")).ok()
        });
        let ready = serde_json::from_slice(&ready).unwrap();
        (up, ready)
    }

    fn folder(&self) -> PathBuf {
        self.dir.join("keygate")
    }

    fn stdout(&self) -> String {
        fs::read_to_string(self.dir.join("stdout")).unwrap()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        within(BUILD_AND_START, "it ends", || self.child.try_wait().unwrap())
    }

    /// Waits for it to fail by itself, and returns what it said last.
    fn failure(mut self) -> String {
        let status = self.wait();
        let said = self.stderr();
        assert_eq!(status.code(), Some(1), "{said}");
        self.assert_nothing_is_left();
        let errors: Vec<_> = said.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        assert!(!errors.is_empty(), "no message: {said}");
        errors.join("\n")
    }

    /// Processes that have this folder in their arguments: Envoy has, and the tool itself; and
    /// those of these ids.
    fn left(&self, pids: &[u64]) -> Vec<String> {
        let folder = self.folder().display().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid: u64 = path.file_name()?.to_str()?.parse().ok()?;
            let words =
                String::from_utf8_lossy(&fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
            let state = fs::read_to_string(path.join("stat")).ok()?;
            // Of a zombie nothing is left but its exit status, which is its new parent's.
            let is_zombie = state.rsplit_once(')')?.1.trim_start().starts_with('Z');
            let is_ours = words.contains(&folder) || pids.contains(&pid);
            (is_ours && !is_zombie).then(|| format!("{pid}: {words}"))
        });
        processes.collect()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(&[]), Vec::<String>::new());
        assert!(!self.folder().join("ready.json").exists(), "ready.json is still there");
    }

    fn gate(&self, method: &str, path: &str) -> Request {
        let request = Request::new(([127, 0, 0, 1], self.gateway_port).into(), method, path);
        if method == "POST" { request.header("Content-Length", "0") } else { request }
    }

    /// What the gate says of a request with a key, once it could find out about it: on a busy
    /// machine it may have to be asked again.
    fn told(&self, method: &str, path: &str, key: &str) -> Answer {
        eventually("the gate can tell", || {
            let answer = self.gate(method, path).key(key).send();
            (answer.status != 503).then_some(answer)
        })
    }

    fn admin(&self, method: &str, path: &str, key: &str, body: Option<Value>) -> Answer {
        let path = format!("/api/v1/admin/api-keys/{path}");
        let request =
            Request::new(([127, 0, 0, 1], self.admin_port).into(), method, &path).key(key);
        match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        }
        .send()
    }

    fn key(&self, ready: &Value, file: &str) -> String {
        let name = ready[file].as_str().unwrap_or_else(|| panic!("no {file}: {ready}"));
        assert!(Path::new(name).is_relative(), "{name} is not relative to the folder");
        let path = self.folder().join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read {}", path.display());
        fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what it said\n{}\n{}\n---", self.stdout(), self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pids(ready: &Value) -> Vec<u64> {
    let pids = ready["pids"].as_object().unwrap();
    assert_eq!(pids.keys().collect::<Vec<_>>(), ["control_plane", "envoy"]);
    pids.values().map(|pid| pid.as_u64().unwrap()).collect()
}

fn is_alive(pid: u64) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

fn key_id(key: &str) -> &str {
    key.split('_').nth(2).unwrap()
}

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("keygate-up-").tempdir().unwrap()
}

#[test]
fn a_user_starts_it_uses_it_ends_it_and_starts_it_again() {
    let dir = scratch();
    let (mut up, ready) = Up::start(dir.path(), &[]);

    // ready.json: just what is documented.
    let fields: BTreeSet<_> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = [
        "gateway_url",
        "admin_url",
        "envoy_admin_url",
        "admin_key_file",
        "demo_key_file",
        "upstream_url",
        "pids",
    ];
    assert_eq!(fields, documented.into());
    assert_eq!(ready["gateway_url"], format!("http://127.0.0.1:{}", up.gateway_port));
    assert_eq!(ready["admin_url"], format!("http://127.0.0.1:{}", up.admin_port));
    for url in ["envoy_admin_url", "upstream_url"] {
        assert!(ready[url].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
    }
    assert!(pids(&ready).into_iter().all(is_alive), "{ready}");
    let admin_key = up.key(&ready, "admin_key_file");
    let demo_key = up.key(&ready, "demo_key_file");

    // What it printed: where things are, the admin key once, a line that works.
    let said = eventually("it has said where things are", || {
        Some(up.stdout()).filter(|said| said.contains("curl "))
    });
    for url in ["gateway_url", "admin_url"] {
        assert!(said.contains(ready[url].as_str().unwrap()), "{said}");
    }
    assert_eq!(said.matches(&admin_key).count(), 1, "{said}");
    assert!(!up.stderr().contains(&admin_key));
    let line = said.lines().find(|line| line.trim_start().starts_with("curl ")).unwrap();
    let curl = Command::new("sh")
        .args(["-c", &format!("{} -sS -w '\\n%{{http_code}}'", line.trim())])
        .current_dir(workspace::root())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&curl.stdout);
    assert!(
        printed.ends_with("\n200"),
        "{line}: {printed}{}",
        String::from_utf8_lossy(&curl.stderr)
    );

    // The gate and the admin API do what they are for.
    for method in ["GET", "POST"] {
        let answer = up.told(method, "/hello", &demo_key);
        assert_eq!(answer.upstream().header("x-keygate-key-id"), [key_id(&demo_key)]);
        up.gate(method, "/hello").send().assert_problem(403, "missing_api_key");
    }
    let keys = up.admin("GET", "", &admin_key, None).json();
    assert_eq!(keys["items"].as_array().unwrap().len(), 2, "{keys}");
    let own = up.admin("POST", "", &admin_key, Some(json!({"name": "own", "scope": "read"})));
    let own_key = own.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!(up.told("GET", "/", &own_key).status, 200);
    assert_eq!(up.admin("GET", "", &demo_key, None).status, 403, "the demo key is no admin's");
    assert_eq!(up.admin("DELETE", key_id(&demo_key), &admin_key, None).status, 200);
    eventually("the demo key is refused", || {
        let answer = up.told("GET", "/", &demo_key);
        // One address has a hundred requests a minute.
        std::thread::sleep(Duration::from_millis(300));
        (answer.code() == "invalid_api_key").then_some(())
    });

    // A second one in the same folder is refused, and does no harm.
    let mut second = Up::spawn(dir.path(), &[]);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.stderr().contains("already runs"), "{}", second.stderr());
    assert_eq!(up.told("GET", "/", &own_key).status, 200);
    drop(second);

    // Ctrl-C, then a second start, ended by SIGTERM.
    for (signal, is_last) in [(Signal::INT, false), (Signal::TERM, true)] {
        up.signal(signal);
        assert_eq!(up.wait().code(), Some(0), "{}", up.stderr());
        up.assert_nothing_is_left();
        if is_last {
            break;
        }
        let ready;
        (up, ready) = Up::start(dir.path(), &[]);
        assert_eq!(
            (&ready["admin_key_file"], &ready["demo_key_file"]),
            (&Value::Null, &Value::Null),
            "no keys were made: {ready}"
        );
        assert!(!up.stdout().contains(&admin_key));
        let keys = up.admin("GET", "", &admin_key, None).json();
        assert_eq!(keys["items"].as_array().unwrap().len(), 3, "{keys}");
        assert_eq!(up.gate("GET", "/").key(&own_key).send().status, 200);
        up.gate("GET", "/").key(&demo_key).send().assert_problem(403, "invalid_api_key");
    }
}

#[test]
fn no_process_outlives_it_and_it_does_not_outlive_its_parts() {
    let dir = scratch();
    let (mut up, ready) = Up::start(dir.path(), &[]);
    let parts = pids(&ready);
    up.signal(Signal::KILL);
    up.wait();
    eventually("its parts have died with it", || up.left(&parts).is_empty().then_some(()));

    // ready.json of the dead one is still there: the next start must not be taken for ready by it.
    fs::write(up.folder().join("ready.json"), "{}").unwrap();
    drop(up);
    for (part, name) in [("control_plane", "control plane"), ("envoy", "Envoy")] {
        let mut up = Up::spawn(dir.path(), &[]);
        let ready = within(BUILD_AND_START, "ready.json is new", || {
            assert!(up.child.try_wait().unwrap().is_none(), "it ended: {}", up.stderr());
            let ready = fs::read(up.folder().join("ready.json")).ok()?;
            serde_json::from_slice::<Value>(&ready).ok().filter(|ready| ready["pids"].is_object())
        });
        let pid = i32::try_from(ready["pids"][part].as_u64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let said = up.failure();
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn it_puts_the_gate_before_a_users_own_service() {
    let dir = scratch();
    let service = EchoServer::start(0).unwrap();
    let (mut up, ready) = Up::start(dir.path(), &["--upstream", &service.url()]);
    assert_eq!(ready["upstream_url"], service.url());
    let demo_key = up.key(&ready, "demo_key_file");
    let hits = service.hits();
    let answer = up.gate("GET", "/mine?a=b").key(&demo_key).client(fresh_address()).send();
    assert_eq!(answer.upstream().path(), "/mine");
    assert_eq!(service.hits(), hits + 1);
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0));
    up.assert_nothing_is_left();
}

#[test]
fn it_says_plainly_what_is_wrong() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let free = free_port().unwrap();
    for (gateway, admin, option) in [(port, free, "--gateway-port"), (free, port, "--admin-port")] {
        let dir = scratch();
        let said = Up::spawn_on(dir.path(), gateway, admin, &[]).failure();
        assert_eq!(said.lines().count(), 1, "one plain message: {said}");
        assert!(said.contains(&port.to_string()) && said.contains(option), "{said}");
        assert!(said.contains("taken"), "{said}");
    }

    for (config, named) in [
        (json!({"version": 1, "limitz": []}).to_string(), "limitz"),
        (json!({"version": 1, "cache": {"fresh_seconds": "soon"}}).to_string(), "fresh_seconds"),
        (
            json!({"version": 1, "limits": [{"name": "a", "per": "address", "requests": 0, "window_seconds": 60}]})
                .to_string(),
            "requests",
        ),
        ("{\"version\": 1,".to_owned(), "filter.json"),
    ] {
        let dir = scratch();
        let file = dir.path().join("filter.json");
        fs::write(&file, &config).unwrap();
        let said = Up::spawn(dir.path(), &["--filter-config", file.to_str().unwrap()]).failure();
        assert!(said.contains(named), "{config}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let dir = scratch();
    let missing = dir.path().join("missing.json");
    let said = Up::spawn(dir.path(), &["--filter-config", missing.to_str().unwrap()]).failure();
    assert!(said.contains("missing.json"), "{said}");
    let dir = scratch();
    let said = Up::spawn(dir.path(), &["--upstream", "localhost"]).failure();
    assert!(said.contains("localhost"), "{said}");
}
