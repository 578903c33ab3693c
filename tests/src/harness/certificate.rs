//! Certificates made in the test: authorities, the gate's own, and those that clients identify themselves with.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name that gates show a certificate for.
const NAME: &str = "gate.test";

/// Who signs certificates.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
}

/// A certificate that a client shows, and the key that proves it.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    name: String,
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
    /// What connections share that resume each other's sessions.
    shared: Option<Arc<OnceLock<Arc<ClientConfig>>>>,
}

/// A certificate that an upstream shows, and the key that proves it.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Whom a listener lets connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Only who shows a certificate of the trusted authority.
    Required,
    /// Who shows one, and who shows none.
    Optional,
    /// Anyone, whoever signed the certificate (`trust_chain_verification: ACCEPT_UNTRUSTED`).
    AcceptUntrusted,
}

/// The TLS of a gate's listener, all of it as PEM.
#[derive(Debug, Clone)]
pub(crate) struct ListenerTls {
    pub(crate) peers: Peers,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) authority: String,
    trusted: CertificateDer<'static>,
}

/// How one request speaks TLS.
#[derive(Debug, Clone)]
pub(crate) struct ClientTls {
    trusted: CertificateDer<'static>,
    identity: Option<ClientCertificate>,
}

// === impl Authority ===

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: Arc::new(CertifiedIssuer::self_signed(params, key).expect("a certificate")) }
    }

    /// A client certificate with these URIs among its names, in this order.
    pub fn client(&self, uris: &[&str]) -> ClientCertificate {
        self.sign(uris.first().copied().unwrap_or_default(), client(uris))
    }

    /// A client certificate with these URIs that is good until then.
    pub fn client_until(&self, uris: &[&str], end: SystemTime) -> ClientCertificate {
        let mut params = client(uris);
        params.not_after = end.into();
        self.sign(uris.first().copied().unwrap_or_default(), params)
    }

    /// A client certificate that has a host's name and no URI.
    pub fn client_host(&self, host: &str) -> ClientCertificate {
        let mut params = client(&[]);
        params.subject_alt_names = vec![SanType::DnsName(host.try_into().expect("ASCII"))];
        self.sign(host, params)
    }

    /// A certificate for the server of this name.
    pub fn server(&self, host: &str) -> ServerCertificate {
        let (certificate, key) = self.sign_server(host);
        ServerCertificate { certificate: certificate.der().clone(), key: PrivateKeyDer::from(key) }
    }

    /// What it is trusted by, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn sign(&self, name: &str, params: CertificateParams) -> ClientCertificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").der().clone();
        ClientCertificate { name: name.to_owned(), certificate, key: Arc::new(PrivateKeyDer::from(key)), shared: None }
    }

    pub(crate) fn listener(&self, peers: Peers) -> ListenerTls {
        let (certificate, key) = self.sign_server(NAME);
        ListenerTls {
            peers,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority: self.pem(),
            trusted: self.issuer.der().clone(),
        }
    }

    fn sign_server(&self, host: &str) -> (Certificate, KeyPair) {
        let mut params = named(host);
        params.subject_alt_names = vec![SanType::DnsName(host.try_into().expect("ASCII"))];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }
}

fn client(uris: &[&str]) -> CertificateParams {
    let mut params = named("client");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// The first of its names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, for a client that resumes its TLS sessions, as proxies and keep-alive agents do.
    pub fn resuming(mut self) -> Self {
        self.shared = Some(Arc::default());
        self
    }
}

// === impl ServerCertificate ===

impl ServerCertificate {
    /// A server that shows it, and speaks these protocols, if any are named.
    pub fn config(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let mut config = builder.with_single_cert(vec![self.certificate.clone()], self.key.clone_key()).expect("a key that fits");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

// === impl ListenerTls ===

impl ListenerTls {
    /// What a client of this listener starts from.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls { trusted: self.trusted.clone(), identity: None }
    }
}

// === impl ClientTls ===

impl ClientTls {
    pub(crate) fn identify(&mut self, identity: &ClientCertificate) {
        self.identity = Some(identity.clone());
    }

    pub(crate) async fn connect(&self, socket: TcpStream, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let shared = self.identity.as_ref().and_then(|identity| identity.shared.as_deref());
        let config = match shared {
            Some(shared) => Arc::clone(shared.get_or_init(|| Arc::new(self.config(protocol)))),
            None => Arc::new(self.config(protocol)),
        };
        TlsConnector::from(config).connect(ServerName::try_from(NAME).expect("a name"), socket).await
    }

    fn config(&self, protocol: &[u8]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(ClientCertificate { certificate, key, .. }) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).expect("a key that fits")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config
    }
}
