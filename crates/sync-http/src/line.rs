//! What a connection runs on.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::connector::BoxError;
use crate::error::Error;
use crate::resolver::Resolver;

/// Both directions of a connection, below TLS.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// A connection, on its way.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Line>>> + Send>>;

/// Makes connections to addresses that were checked. The functions use TCP, tests that move the clock lines of their own:
/// what comes over a socket does not stop with the clock.
pub trait Lines: Send + Sync {
    /// Connects to an address.
    fn connect(&self, to: SocketAddr) -> Connecting;
}

/// Connects to one of the checked addresses of a host.
#[derive(Clone)]
pub(crate) struct Dial {
    tcp: HttpConnector<Resolver>,
    own: Option<(Resolver, Arc<dyn Lines>)>,
}

impl Dial {
    pub(crate) fn new(resolver: Resolver, lines: Option<Arc<dyn Lines>>) -> Self {
        let own = lines.map(|lines| (resolver.clone(), lines));
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, own }
    }
}

impl Connection for Box<dyn Line> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Line>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some((resolver, lines)) = self.own.clone() else {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move {
                let line: Box<dyn Line> = Box::new(connecting.await?.into_inner());
                Ok(TokioIo::new(line))
            });
        };
        Box::pin(async move {
            let port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let name = uri.host().and_then(|host| host.parse().ok()).ok_or(Error::Name)?;
            let mut address = resolver.resolve(name).await?.next().ok_or(Error::Name)?;
            address.set_port(uri.port_u16().unwrap_or(port));
            Ok(TokioIo::new(lines.connect(address).await.map_err(|_| Error::Connect)?))
        })
    }
}
