//! Resolves names and lets only checked addresses through.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::error::Error;
use crate::guard::{Guard, Refusal, is_localhost};

/// The addresses of a name, on their way.
pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Gives the addresses of names. The functions use [`SystemNames`], tests names of their own.
pub trait Names: Send + Sync {
    /// The addresses of a name.
    fn addresses(&self, name: &str) -> Answer;
}

/// The names that the system knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, name: &str) -> Answer {
        let name = name.to_owned();
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Resolves a name once for each connection; the connection goes to one of the addresses that came through, so that
/// a name that changes between check and use gains nothing.
#[derive(Clone)]
pub(crate) struct Resolver {
    names: Arc<dyn Names>,
    guard: Arc<Guard>,
}

impl Resolver {
    pub(crate) fn new(names: Arc<dyn Names>, guard: Arc<Guard>) -> Self {
        Self { names, guard }
    }

    /// The checked addresses of a name.
    pub(crate) fn resolve(&self, name: Name) -> <Self as Service<Name>>::Future {
        self.clone().call(name)
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let answer = self.names.addresses(name.as_str());
        let guard = Arc::clone(&self.guard);
        // `localhost` is allowed by its name, so it must not lead anywhere else.
        let local_only = is_localhost(name.as_str());
        Box::pin(async move {
            let addresses = answer.await.map_err(|_| Error::Name)?;
            if addresses.is_empty() {
                return Err(Error::Name);
            }
            let fits = |ip: &IpAddr| guard.check_ip(*ip).is_ok() && (ip.is_loopback() || !local_only);
            // The port is set by the connector, from the address of the request.
            let checked: Vec<_> =
                addresses.into_iter().filter(fits).map(|ip| SocketAddr::new(ip, 0)).collect();
            if checked.is_empty() { Err(Error::Refused(Refusal::Network)) } else { Ok(checked.into_iter()) }
        })
    }
}
