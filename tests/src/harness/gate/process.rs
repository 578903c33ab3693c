//! The Envoy process, and its admin interface.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::super::envoy::Environment;
use super::super::raw::parse;
use super::super::wait::until;
use super::artifacts::envoy_binary;

/// The Envoy process and its working directory.
#[derive(Debug)]
pub(super) struct Envoy {
    pub(super) process: Child,
    pub(super) directory: PathBuf,
}

// === impl Envoy ===

impl Envoy {
    pub(super) fn spawn(directory: PathBuf, environment: &Environment, workers: u32) -> Self {
        let log = fs::File::create(directory.join("envoy.log")).expect("a writable directory");
        let process = Command::new(envoy_binary())
            .arg("--config-path")
            .arg(directory.join("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(directory.join("admin"))
            .args(["--concurrency", &workers.to_string(), "--disable-hot-restart", "--file-flush-interval-msec", "10"])
            .args(["--log-level", "warning", "--component-log-level", "wasm:debug"])
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        Self { process, directory }
    }

    pub(super) async fn admin_address(&mut self) -> SocketAddr {
        let path = self.directory.join("admin");
        until("Envoy opens its admin port", async || {
            if let Some(status) = self.process.try_wait().expect("a child process") {
                panic!("Envoy ended with {status}:\n{}", self.log());
            }
            fs::read_to_string(&path).ok()?.parse().ok()
        })
        .await
    }

    pub(super) fn log(&self) -> String {
        fs::read(self.directory.join("envoy.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::env::var_os("PAI_KEEP").is_some() {
            eprintln!("kept: {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Returns the address of the listener named `gate`, once it listens.
pub(super) fn listener_address(admin: SocketAddr) -> Option<SocketAddr> {
    if !admin_get(admin, "/ready")?.starts_with("LIVE") {
        return None;
    }
    let listeners: Value = serde_json::from_str(&admin_get(admin, "/listeners?format=json")?).ok()?;
    let gate = listeners["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == "gate");
    let socket = &gate.unwrap_or(&listeners["listener_statuses"][0])["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

/// Queries Envoy's admin interface, blocking, so that a failing test can use it, too.
pub(super) fn admin_get(address: SocketAddr, path: &str) -> Option<String> {
    admin(address, "GET", path)
}

pub(super) fn admin(admin: SocketAddr, method: &str, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect_timeout(&admin, Duration::from_secs(1)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&parse(&answer)?.body).into_owned())
}

pub(super) fn new_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("pai-gate-{}-{count}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}
