//! Sessions: who is spoken to, and how.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sync_sources::postgres::{Access, Purpose};
use sync_sources::{Error, Kind};
use sync_testkit::postgres::PASSWORD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::stand::SERVER;

/// An authority, and TLS before the test server by a certificate of it.
struct Front {
    port: u16,
    authority: String,
}

impl Front {
    async fn new(name: &str) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        Self { port, authority: authority.pem() }
    }

    /// With a URL that would rather do without TLS.
    fn access(&self, authority: &str) -> Access {
        Access {
            url: format!(
                "postgresql://postgres:{PASSWORD}@{}:{}/postgres?sslmode=disable",
                here(),
                self.port
            )
            .into(),
            root_certificates: Some(authority.as_bytes().to_vec()),
            allow_loopback: false,
            application_name: "datasync test".into(),
        }
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "it asks for TLS before it says anything");
        stream.write_all(b"S").await.unwrap();
        if let Ok(mut stream) = tls.accept(stream).await {
            let mut server = TcpStream::connect(("127.0.0.1", SERVER.port())).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut server).await });
        }
    }
}

/// An address of this machine that is not loopback. Nothing is sent.
fn here() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

fn refused(result: Result<sync_sources::postgres::Session, Error>, code: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Misconfigured, code), "{error}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
}

#[tokio::test]
async fn a_server_is_spoken_to_by_tls_and_only_with_a_certificate_for_its_name() {
    let front = Front::new(&here().to_string()).await;
    let session = front.access(&front.authority).open(Purpose::Read).await.unwrap();
    assert_eq!(session.client().query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);

    let other = Front::new("db.example.com").await;
    refused(front.access(&other.authority).open(Purpose::Read).await, "certificate");
    refused(other.access(&other.authority).open(Purpose::Read).await, "certificate");
    refused(other.access("").open(Purpose::Read).await, "root_certificates");
}

fn local(url: &str, allow_loopback: bool) -> Access {
    Access {
        url: url.to_owned().into(),
        root_certificates: None,
        allow_loopback,
        application_name: "datasync test".into(),
    }
}

#[tokio::test]
async fn this_machine_is_spoken_to_only_where_that_is_allowed() {
    let url = SERVER.url("postgres");
    assert!(local(&url, true).open(Purpose::Read).await.is_ok());
    let socket = SERVER.socket().display().to_string().replace('/', "%2F");
    let socket = format!("postgresql://postgres@{socket}:{}/postgres", SERVER.port());
    assert!(local(&socket, true).open(Purpose::Read).await.is_ok());
    for url in [&url, &socket, &url.replace("127.0.0.1", "[::1]"), &url.replace("127.0.0.1", "localhost")] {
        refused(local(url, false).open(Purpose::Read).await, "url");
    }
    for bad in
        ["", "https://example.com", "postgresql://a:b@one,two/x", "postgresql://a:b@one/x?hostaddr=127.0.0.1"]
    {
        refused(local(bad, true).open(Purpose::Read).await, "url");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_from_everything_else() {
    let url = SERVER.url("postgres");
    refused(local(&url.replace(PASSWORD, "old"), true).open(Purpose::Read).await, "authentication_failed");
    refused(local(&SERVER.url("nowhere"), true).open(Purpose::Read).await, "no_database");
    let closed = url.replace(&SERVER.port().to_string(), "1");
    let error = local(&closed, true).open(Purpose::Read).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unavailable, "connection"));
}

#[tokio::test]
async fn a_session_that_reads_cannot_write() {
    let session = local(&SERVER.url("postgres"), true).open(Purpose::Read).await.unwrap();
    let error = session.client().batch_execute("CREATE TABLE public.t (a int)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
}
