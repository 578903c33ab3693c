//! A home directory in which `pai` runs, and a server with fixed answers.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;

/// The list of models that most tests answer with.
pub const MODELS: &str = r#"{"object": "list", "data": [
    {"id": "vllm-local/meta-llama/Meta-Llama-3-70B-Instruct", "object": "model", "created": 0, "owned_by": "vllm-local", "max_model_len": 8192},
    {"id": "anthropic/claude-haiku-4-5", "object": "model", "created": 0, "owned_by": "anthropic"}]}"#;

/// A user with a home directory.
pub struct User {
    home: tempfile::TempDir,
}

/// What a command printed.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A server that answers each request with one text.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

// === impl User ===

impl User {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn pai(&self, arguments: &[&str]) -> Run {
        self.pipe(arguments, "")
    }

    pub fn pipe(&self, arguments: &[&str], input: &str) -> Run {
        run(self.command("pai").args(arguments), input)
    }

    /// Returns a command of this user, who has no other environment than a `PATH` with `pai` first in it.
    pub fn command(&self, program: &str) -> Command {
        let folder = Path::new(env!("CARGO_BIN_EXE_pai")).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let program = if program == "pai" { env!("CARGO_BIN_EXE_pai") } else { program };
        let mut command = Command::new(program);
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).env("XDG_CONFIG_HOME", self.path("config"));
        command
    }

    /// Logs in to a server and checks that it worked.
    pub fn log_in(&self, server: &Server, key: &str) {
        let run = self.pai(&["login", &server.url(), "--access-key", key]);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// Returns all that was printed, with a name in place of the server's address.
    pub fn shown(&self, server: &Server) -> String {
        let code = self.code.unwrap();
        format!("exit {code}\n{}--\n{}", self.stdout, self.stderr).replace(&server.address, "gateway.test")
    }
}

// === impl Server ===

impl Server {
    pub fn start(response: impl Into<String>) -> Self {
        let response = response.into();
        Self::serve(move |stream| exchange(stream, &response))
    }

    /// Starts a server that keeps its connections open.
    pub fn start_open(response: String) -> Self {
        let kept = Mutex::new(Vec::new());
        Self::serve(move |stream| {
            kept.lock().unwrap().push(stream.try_clone()?);
            exchange(stream, &response)
        })
    }

    /// Starts a server with TLS.
    pub fn start_tls(response: String, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Self {
        let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
        let config = Arc::new(config);
        Self::serve(move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            exchange(rustls::StreamOwned::new(connection, stream), &response)
        })
    }

    /// Returns an address at which nothing listens.
    pub fn stopped() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap().to_string(), requests: Arc::default() }
    }

    fn serve(answer: impl Fn(TcpStream) -> std::io::Result<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap().to_string(), requests: Arc::default() };
        let requests = server.requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Ok(request) = answer(stream.unwrap()) {
                    requests.lock().unwrap().push(request);
                }
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.address.rsplit(':').next().unwrap())
    }

    /// Returns the requests so far: head and body as received.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Runs a command with this text as its stdin.
pub fn run(command: &mut Command, input: &str) -> Run {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // not every command reads it
    child.wait_with_output().unwrap().into()
}

/// Returns whether a program is installed, and prints if it is not.
pub fn is_installed(program: &str) -> bool {
    let found = ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !found {
        eprintln!("{program} is not installed: skipped");
    }
    found
}

/// Reads a request, sends the response, and returns the request.
fn exchange(stream: impl Read + Write, response: &str) -> std::io::Result<String> {
    let mut stream = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    while !request.ends_with("\r\n\r\n") {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return stream.get_mut().write_all(response.as_bytes()).and(Err(error)), // not HTTP
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request += &line;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    stream.get_mut().write_all(response.as_bytes())?;
    stream.get_mut().flush()?;
    Ok(request + &String::from_utf8(body).unwrap())
}

/// Returns a response with this status and JSON body.
pub fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// Returns a response that lists two models.
pub fn models() -> String {
    response("200 OK", MODELS)
}
