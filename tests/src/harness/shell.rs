//! A shell with `pai`, in a home directory of its own, and the gateway that it runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::gate::{built, envoy_binary};

/// How long the gateway may take to start.
const START: Duration = Duration::from_secs(60);

/// A shell in a home directory, with `pai` in its `PATH`.
#[derive(Debug, Clone)]
pub struct Shell {
    home: PathBuf,
}

/// A running gateway. Dropping it ends it.
#[derive(Debug)]
pub struct RunningGateway {
    process: Child,
    log: PathBuf,
}

/// What a command printed.
#[derive(Debug)]
pub struct Printed {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What went to stdout.
    pub stdout: String,
    /// What went to stderr.
    pub stderr: String,
}

// === impl Shell ===

impl Shell {
    /// Opens a shell in this home directory.
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.join(name), text).unwrap();
    }

    /// Runs a script; its failure fails the test.
    pub fn run(&self, script: &str) -> Printed {
        let printed = self.attempt(script);
        assert_eq!(printed.code, Some(0), "$ {script}\n{}\n{}", printed.stdout, printed.stderr);
        printed
    }

    /// Runs a script.
    pub fn attempt(&self, script: &str) -> Printed {
        println!("$ {script}");
        let Output { status, stdout, stderr } = self.command("bash").args(["-c", script]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Printed { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Starts `pai gateway run`, and waits until it says that it listens.
    pub fn gateway(&self, options: &[&str]) -> RunningGateway {
        let mut gateway = self.start_gateway(options);
        let deadline = Instant::now() + START;
        while !gateway.said().contains("Metrics:") {
            let ended = gateway.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "the gateway does not run: {ended:?}\n{}", gateway.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    /// Starts `pai gateway run`.
    pub fn start_gateway(&self, options: &[&str]) -> RunningGateway {
        let log = self.home.join(format!("gateway-{}.log", std::fs::read_dir(&self.home).unwrap().count()));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command("pai");
        command.args(["gateway", "run"]).args(options).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        RunningGateway { process: command.spawn().unwrap(), log }
    }

    /// Returns a command in this shell's directory and environment.
    pub fn pai(&self) -> Command {
        self.command("pai")
    }

    fn command(&self, program: &str) -> Command {
        let release = built("release/pai", "scripts/build");
        let release = release.parent().unwrap();
        let program = if program == "pai" { release.join("pai") } else { program.into() };
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &self.home).env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", release.display()));
        // The module of the tests, whose clock can be set.
        command.env("PAI_FILTER_WASM", built("test-hooks/wasm32-wasip1/release/pai_filter.wasm", "scripts/test e2e"));
        command.env("PAI_ENVOY", envoy_binary());
        let authority = self.home.join("authority.pem");
        if authority.exists() {
            command.env("SSL_CERT_FILE", authority);
        }
        command.current_dir(&self.home);
        command
    }
}

// === impl RunningGateway ===

impl RunningGateway {
    /// Returns what the gateway has printed so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the URL for clients, `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        let said = self.said();
        let (_, url) = said.split_once("The gateway listens on ").unwrap();
        url.split_once(". ").unwrap().0.to_owned()
    }

    /// Ends the gateway as Ctrl-C does, and returns whether it ended without an error.
    pub fn end(&mut self) -> bool {
        let _ = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        self.process.wait().unwrap().success()
    }

    /// Waits for the end, and returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = Command::new("kill").arg(self.process.id().to_string()).status();
            let _ = self.process.wait();
        }
    }
}
