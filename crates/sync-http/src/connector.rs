//! Makes connections: TCP to checked addresses, TLS on top.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::error::Error;
use crate::line::{Dial, Line};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects by TCP, and by TLS where the address says https. The trusted roots are read at the first TLS connection:
/// a cold start that ends without one does not pay for them.
#[derive(Clone)]
pub(crate) struct Connector {
    dial: Dial,
    tls: Arc<OnceLock<Option<HttpsConnector<Dial>>>>,
}

impl Connector {
    pub(crate) fn new(dial: Dial) -> Self {
        Self { dial, tls: Arc::default() }
    }

    fn tls(&self) -> Option<HttpsConnector<Dial>> {
        let build = || {
            let builder = HttpsConnectorBuilder::new().with_native_roots().ok()?;
            Some(builder.https_only().enable_http1().wrap_connector(self.dial.clone()))
        };
        self.tls.get_or_init(build).clone()
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<Box<dyn Line>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.dial.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() == Some(&Scheme::HTTP) {
            let connecting = self.dial.call(uri);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        }
        match self.tls() {
            Some(mut tls) => tls.call(uri),
            // No trusted roots on this machine.
            None => Box::pin(async { Err(Error::Connect.into()) }),
        }
    }
}
