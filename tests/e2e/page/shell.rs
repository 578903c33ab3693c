//! The shell of someone who follows the page.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::harness::built;

/// How long the gateway may take to start.
const START: Duration = Duration::from_secs(60);

/// A shell in an empty directory, with `pai` in its `PATH`.
pub struct Shell {
    home: PathBuf,
}

/// A running gateway. Dropping it ends it.
pub struct RunningGateway(Child);

/// What a command printed.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

// === impl Shell ===

impl Shell {
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
        let log = self.home.join("gateway.log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command("pai");
        command.args(["gateway", "run"]).args(options).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut gateway = RunningGateway(command.spawn().unwrap());
        let deadline = Instant::now() + START;
        loop {
            let said = std::fs::read_to_string(&log).unwrap();
            if said.contains("Metrics:") {
                return gateway;
            }
            let ended = gateway.0.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "the gateway does not run: {ended:?}\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, program: &str) -> Command {
        let release = built("release/pai", "scripts/build");
        let release = release.parent().unwrap();
        let program = if program == "pai" { release.join("pai") } else { program.into() };
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &self.home).env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", release.display()));
        // The module of the tests, whose clock can be set.
        command.env("PAI_FILTER_WASM", built("test-hooks/wasm32-wasip1/release/pai_filter.wasm", "scripts/test e2e"));
        command.env("PAI_ENVOY", e2e::harness::envoy_binary()).env("SSL_CERT_FILE", self.home.join("authority.pem"));
        command.current_dir(&self.home);
        command
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
