//! Makes connections: TCP to checked addresses, TLS on top.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::error::Error;
use crate::resolver::Resolver;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Tcp = HttpConnector<Resolver>;

/// Connects by TCP, and by TLS where the address says https. The trusted roots are read at the first TLS connection:
/// a cold start that ends without one does not pay for them.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: Tcp,
    tls: Arc<OnceLock<Option<HttpsConnector<Tcp>>>>,
}

impl Connector {
    pub(crate) fn new(resolver: Resolver) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls: Arc::default() }
    }

    fn tls(&self) -> Option<HttpsConnector<Tcp>> {
        let build = || {
            let builder = HttpsConnectorBuilder::new().with_native_roots().ok()?;
            Some(builder.https_only().enable_http1().wrap_connector(self.tcp.clone()))
        };
        self.tls.get_or_init(build).clone()
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() == Some(&Scheme::HTTP) {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        }
        match self.tls() {
            Some(mut tls) => tls.call(uri),
            // No trusted roots on this machine.
            None => Box::pin(async { Err(Error::Connect.into()) }),
        }
    }
}
