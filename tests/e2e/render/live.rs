//! A gateway directory whose configuration is replaced while its Envoy runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::harness::{Authority, Rng, envoy_binary, seed, until};
use pai::manifest::Manifest;
use pai::render::{self, BootstrapOptions, DynamicOptions, SecretFile};
use serde_json::Value;

use super::{count, generate, module, version};

/// A gateway directory and the Envoy that reads it.
pub(crate) struct Live {
    envoy: Child,
    pub(crate) options: DynamicOptions,
    versions: u32,
    admin: String,
}

/// The statistics that are not zero where Envoy has refused something.
const REFUSALS: [&str; 4] = ["update_rejected", "update_failure", "init_fetch_timeout", "key_rotation_failed"];

// === impl Live ===

impl Live {
    /// Starts Envoy with these manifests, and bodies of at most the default size.
    pub(crate) async fn start(manifests: &[Manifest], authority: &Authority) -> Self {
        Self::start_with(manifests, authority, 16 << 20, None).await
    }

    /// Starts Envoy with these manifests. `tls` has the paths of the listener's certificate and its key.
    pub(crate) async fn start_with(
        manifests: &[Manifest],
        authority: &Authority,
        max_request_bytes: u64,
        tls: Option<(&Path, &Path)>,
    ) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pai-render-{}-{number}", std::process::id()));
        for folder in ["live", "sds", "versions"] {
            fs::create_dir_all(directory.join(folder)).unwrap();
        }
        let authorities = directory.join("authorities.pem");
        fs::write(&authorities, authority.pem()).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let bootstrap = render::bootstrap(&BootstrapOptions {
            directory: directory.clone(),
            listen: any,
            admin: any,
            control: directory.join("control.sock"),
            tls: tls.is_some(),
            max_request_bytes,
            node: "pai".to_owned(),
        });
        fs::write(directory.join("bootstrap.json"), bootstrap.unwrap().to_string()).unwrap();
        if let Some((chain, key)) = tls {
            fs::write(render::certificate_path(&directory), render::certificate(chain, key).to_string()).unwrap();
        }
        let options = DynamicOptions { directory, module: module(), envoy: version(), authorities };
        let mut live = Self { envoy: Command::new("true").spawn().unwrap(), options, versions: 0, admin: String::new() };
        live.install(manifests);
        live.spawn().await;
        live
    }

    async fn spawn(&mut self) {
        let directory = &self.options.directory;
        let log = fs::File::create(directory.join("envoy.log")).unwrap();
        let mut envoy = Command::new(envoy_binary());
        envoy.arg("-c").arg(directory.join("bootstrap.json")).arg("--reject-unknown-dynamic-fields");
        envoy.arg("--admin-address-path").arg(directory.join("admin")).args(["--concurrency", "2", "--disable-hot-restart"]);
        envoy.args(["--log-level", "warning"]).stdout(Stdio::null()).stderr(log);
        let _ = self.envoy.wait();
        self.envoy = envoy.spawn().unwrap();
        let path = directory.join("admin");
        self.admin = until("Envoy listens", async || {
            if let Some(status) = self.envoy.try_wait().unwrap() {
                panic!("Envoy ended with {status}:\n{}", self.log());
            }
            fs::read_to_string(&path).ok().filter(|address| !address.is_empty())
        })
        .await;
        until("Envoy is ready", async || self.try_get("/ready").await.filter(|text| text.starts_with("LIVE"))).await;
    }

    /// Writes what these manifests become, and exchanges the link. Returns the version.
    pub(crate) fn install(&mut self, manifests: &[Manifest]) -> String {
        for file in render::secret_files(manifests).unwrap() {
            self.secret(&file, "s3cr3t");
        }
        let dynamic = render::dynamic(manifests, &self.options).unwrap();
        self.swap(&dynamic.clusters, &dynamic.routes, &dynamic.gate, &dynamic.version);
        dynamic.version
    }

    /// Writes a version, and exchanges the link.
    pub(crate) fn swap(&mut self, clusters: &[Value], routes: &Value, gate: &Value, version: &str) {
        self.versions += 1;
        let directory = &self.options.directory;
        let folder = directory.join("versions").join(self.versions.to_string());
        fs::create_dir_all(&folder).unwrap();
        let one = std::slice::from_ref;
        for (file, resources) in [("cds.json", clusters), ("rds.json", one(routes)), ("gate.json", one(gate))] {
            fs::write(folder.join(file), render::resource_file(resources, version).to_string()).unwrap();
        }
        let link = directory.join("versions").join("next");
        symlink(Path::new("../versions").join(self.versions.to_string()), &link).unwrap();
        fs::rename(link, directory.join("live/current")).unwrap();
    }

    /// Writes a file with a secret.
    pub(crate) fn secret(&self, file: &SecretFile, value: &str) {
        let path = file.path(&self.options.directory);
        let next = path.with_extension("next");
        fs::write(&next, file.content(value, self.versions.into()).to_string()).unwrap();
        fs::rename(next, path).unwrap();
    }

    /// Waits until clusters, routes and policy of this version are in force.
    pub(crate) async fn in_force(&self, version: &str) {
        until("the configuration is in force", async || {
            self.check();
            let text = self.try_get("/stats?type=TextReadouts&filter=version_text").await?;
            let versions: Vec<&str> =
                text.lines().filter(|line| !line.starts_with("sds.")).filter_map(|line| line.split('"').nth(1)).collect();
            (versions.len() == 3 && versions.iter().all(|found| *found == version)).then_some(())
        })
        .await;
    }

    /// Fails if Envoy has refused something.
    pub(crate) fn check(&self) {
        let log = self.log();
        assert!(!log.contains("rejected") && !log.contains("refused"), "{log}");
    }

    /// Returns the statistics whose names contain one of these words.
    pub(crate) async fn statistics(&self, words: &[&str]) -> Vec<(String, u64)> {
        let text = self.try_get(&format!("/stats?filter={}", words.join("%7C"))).await.unwrap();
        let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<String> {
        reqwest::get(format!("http://{}{path}", self.admin)).await.ok()?.text().await.ok()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.options.directory.join("envoy.log")).unwrap_or_default()
    }

    /// Returns the port of the listener for clients.
    pub(crate) async fn port(&self) -> String {
        until("the listener is there", async || {
            let listeners = self.try_get("/listeners").await?;
            listeners.lines().find_map(|line| line.strip_prefix("openai::127.0.0.1:")).map(str::to_owned)
        })
        .await
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.options.directory.join("control.sock")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
        if std::env::var_os("PAI_KEEP").is_some() {
            eprintln!("kept: {}", self.options.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.options.directory);
        }
    }
}

#[tokio::test]
async fn one_envoy_takes_every_configuration() {
    let mut rng = Rng::new(seed());
    let mut old = generate::manifests(&mut rng);
    let mut live = Live::start_with(&old, &Authority::new("trusted"), generate::MAX_REQUEST_BYTES, None).await;
    for number in 0..count(20) {
        let new = generate::manifests(&mut rng);
        let before = render::dynamic(&old, &live.options).unwrap();
        for file in render::secret_files(&new).unwrap() {
            live.secret(&file, "s3cr3t");
        }
        let both = render::union(&old, &new, &live.options).unwrap();
        live.swap(&both.clusters, &both.routes, &before.gate, &format!("both-{number}"));
        live.in_force(&format!("both-{number}")).await;
        let version = live.install(&new);
        live.in_force(&version).await;
        old = new;
    }
    let refused = live.statistics(&REFUSALS).await;
    assert!(refused.len() > 3, "{refused:?}");
    assert!(refused.iter().all(|(_, value)| *value == 0), "{refused:?}\n{}", live.log());
    until("no cluster is warming", async || {
        let warming = live.statistics(&["warming_clusters"]).await;
        (warming == [("cluster_manager.warming_clusters".to_owned(), 0)]).then_some(())
    })
    .await;
}
