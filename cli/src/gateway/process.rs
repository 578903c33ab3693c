//! The Envoy process of a gateway: started in the foreground, its output read line by line, ended when it has no more requests.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;

use super::EnvoyBinary;
use super::access_log::AccessLog;
use crate::directory::GatewayDirectory;
use crate::failure::Failure;

/// Lines of Envoy's own log that are kept for an error.
const KEPT_LINES: usize = 20;

/// A running Envoy.
#[derive(Debug)]
pub struct EnvoyProcess {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

/// How Envoy is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program.
    pub envoy: &'a EnvoyBinary,
    /// Where its configuration is.
    pub directory: &'a GatewayDirectory,
    /// The number of workers; by default Envoy's own.
    pub concurrency: Option<u32>,
}

// === impl Start ===

impl Start<'_> {
    /// Starts Envoy.
    pub fn spawn(&self) -> Result<EnvoyProcess, Failure> {
        let _ = std::fs::remove_file(self.directory.admin_address());
        // A socket that a killed Envoy has left.
        let _ = std::fs::remove_file(self.directory.control_socket());
        let mut command = Command::new(&self.envoy.path);
        command.arg("--config-path").arg(self.directory.bootstrap());
        command.arg("--admin-address-path").arg(self.directory.admin_address());
        command.args([
            "--disable-hot-restart",
            "--reject-unknown-dynamic-fields",
            "--log-level",
            "warning",
            "--component-log-level",
            "wasm:info",
        ]);
        // A line of the access log appears soon after its request; the default is ten seconds.
        command.args(["--file-flush-interval-msec", "200"]);
        if let Some(concurrency) = self.concurrency {
            command.args(["--concurrency", &concurrency.to_string()]);
        }
        // A key of a provider has no business in Envoy's environment: it reads secrets from files.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAI_SECRET_")) {
            command.env_remove(name);
        }
        die_with_parent(&mut command);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("{} cannot be started", self.envoy.path.display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let access_log = AccessLog::for_stdout();
            readers.push(thread::spawn(move || each_line(stdout, |line| access_log.print(line))));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(self.log_reader(stderr, Arc::clone(&log))?);
        }
        Ok(EnvoyProcess { child, log, readers })
    }

    /// Copies Envoy's log into a file, and keeps its last lines.
    fn log_reader(&self, stderr: impl Read + Send + 'static, kept: Arc<Mutex<Vec<String>>>) -> Result<JoinHandle<()>, Failure> {
        let path: PathBuf = self.directory.log();
        let mut file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(thread::spawn(move || {
            each_line(stderr, |line| {
                let _ = writeln!(file, "{line}");
                if let Ok(mut kept) = kept.lock() {
                    if kept.len() == KEPT_LINES {
                        kept.remove(0);
                    }
                    kept.push(line.to_owned());
                }
            });
        }))
    }
}

/// Ends Envoy with this process, also where this process is killed: an Envoy without it would hold the port.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the only way to have the kernel end a child with its parent")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl is async-signal-safe, and touches nothing of this process.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
        // Ctrl-C reaches the whole foreground group; this process decides what it means.
        command.process_group(0);
    }
}

/// Other systems have no such call.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

/// Calls `use_line` for each line. Bytes that are not UTF-8 are replaced.
fn each_line(source: impl Read, mut use_line: impl FnMut(&str)) {
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        use_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

// === impl EnvoyProcess ===

impl EnvoyProcess {
    /// Returns the status with which Envoy has ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Returns why Envoy could not start, by its log.
    pub fn failure(&mut self, listen: &str) -> Failure {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let lines = self.log.lock().map(|lines| lines.clone()).unwrap_or_default();
        if let Some(line) = lines.iter().find(|line| line.contains("Address already in use")) {
            let address =
                line.split_once("cannot bind '").and_then(|(_, rest)| rest.split_once('\'')).map_or(listen, |(address, _)| address);
            return Failure::refused(format!(
                "another program listens on {address}; choose another address with --listen, or --admin for Envoy's admin port"
            ));
        }
        let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
        Failure::refused(format!("Envoy has ended. The end of its log:{lines}"))
    }

    /// Asks Envoy to end, and waits until it has.
    pub fn end(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        // The last lines of the access log.
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for EnvoyProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
