//! Opens sessions: TLS that is checked, settings under which values read alike, and what tells one cluster from another.

use std::error::Error as _;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use crate::{Error, Kind, Result};

/// How long a connection may take to be made, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What every session says before anything else. The first block decides how values read, and is the same in all modes;
/// the second keeps us from holding anybody up, and from reading less than there is without noticing: where a policy
/// of row security would hide rows, the server refuses instead.
const SETTINGS: &str = "
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'hex';
SET extra_float_digits = 1;
SET search_path = pg_catalog;
SET row_security = off;
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '120s';
";

/// Not every server can: it then notices later that a reader has gone.
const NOTICE_WHEN_GONE: &str = "SET client_connection_check_interval = '5s'";

/// Where and how to connect.
pub struct Access {
    /// `postgresql://user:password@host:5432/database`; what it says about TLS is not asked.
    pub url: Zeroizing<String>,
    /// Certificates (PEM) that the server's is checked against; those of the system without them.
    pub root_certificates: Option<Vec<u8>>,
    /// Whether this machine (loopback, Unix socket) may be spoken to, and without TLS. Other hosts never.
    pub allow_loopback: bool,
    /// What the server lists the session as, e.g. `datasync crm-db`.
    pub application_name: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("application_name", &self.application_name).finish_non_exhaustive()
    }
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read: the server refuses every write.
    Read,
    /// To read, and to clean up what was read (trigger mode).
    Write,
}

/// An open session. It is cut when dropped, whatever it is doing.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    /// What statements go through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The code of a statement that was broken off.
pub(super) const CANCELED: &str = "took_too_long";

/// What tells one history of a database from another. Positions mean something only within one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's system identifier, made by `initdb`.
    pub system: String,
    /// The timeline: raised by a promotion and by a restore to a point in time.
    pub timeline: u32,
    /// The database.
    pub database: String,
}

impl Identity {
    /// Reads the identity of the database of a session.
    pub async fn read(session: &Session) -> Result<Self> {
        // The control file tells the timeline of the last checkpoint, which is behind just after a promotion.
        const SQL: &str = "
            SELECT (SELECT system_identifier::text FROM pg_control_system()),
                CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
                current_database()::text, current_setting('server_encoding')";
        let row =
            session.client.query_one(SQL, &[]).await.map_err(|e| failure("the cluster's identity", &e))?;
        let encoding: String = column(&row, 3)?;
        if encoding == "SQL_ASCII" {
            return Err(Error {
                kind: Kind::Misconfigured,
                code: "encoding",
                place: "the database".into(),
                remedy: "a database in SQL_ASCII does not say what its texts mean: move it to UTF8".into(),
            });
        }
        Ok(Self {
            system: column(&row, 0)?,
            timeline: column::<i32>(&row, 1)?.cast_unsigned(),
            database: column(&row, 2)?,
        })
    }

    /// The identity in a cursor of any mode.
    ///
    /// # Errors
    /// `Lost` with code `cursor`, as the readers have it.
    pub fn of_cursor(cursor: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Cursor {
            #[serde(alias = "history")]
            identity: Identity,
        }
        let read = serde_json::from_str(cursor).map(|cursor: Cursor| cursor.identity);
        read.map_err(|_| Error {
            kind: Kind::Lost,
            code: "cursor",
            place: "the checkpoint of the source".into(),
            remedy: "the cursor does not read: raise `epoch` and resync".into(),
        })
    }

    /// Makes sure that a cursor with this identity may go on in `now`.
    ///
    /// # Errors
    /// `Lost`: another cluster, timeline or database stands behind the address.
    pub fn check(&self, now: &Self) -> Result<()> {
        let (code, what) = if self.system != now.system {
            ("other_cluster", "another cluster (restored from a dump, or a new one)")
        } else if self.timeline != now.timeline {
            ("other_timeline", "another timeline (promoted, or restored to a point in time)")
        } else if self.database != now.database {
            ("other_database", "another database")
        } else {
            return Ok(());
        };
        Err(Error {
            kind: Kind::Lost,
            code,
            place: "the address of the database".into(),
            remedy: format!(
                "{what} stands there now, where positions mean something else: raise `epoch` and resync"
            ),
        })
    }
}

impl Access {
    /// Opens a session.
    pub async fn open(&self, purpose: Purpose) -> Result<Session> {
        let session = self.connect().await?;
        let read_only = match purpose {
            Purpose::Read => "SET default_transaction_read_only = on",
            Purpose::Write => "SET default_transaction_read_only = off",
        };
        let settings = format!("{SETTINGS}{read_only}");
        session
            .client
            .batch_execute(&settings)
            .await
            .map_err(|e| failure("the settings of a session", &e))?;
        // Refused where the operating system of the server cannot.
        let _ = session.client.batch_execute(NOTICE_WHEN_GONE).await;
        Ok(session)
    }

    async fn connect(&self) -> Result<Session> {
        let mut config: Config = self.url.parse().map_err(|_| bad_url("it is no PostgreSQL URL"))?;
        config.application_name(self.application_name.as_str()).keepalives_idle(Duration::from_secs(60));
        let connecting = async {
            if self.goes_without_tls(&config)? {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) =
                    config.connect(NoTls).await.map_err(|e| failure("the login", &e))?;
                let connection = tokio::spawn(async move { drop(connection.await) });
                return Ok(Session { client, connection });
            }
            config.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(self.tls()?);
            let (client, connection) = config.connect(tls).await.map_err(|e| failure("the login", &e))?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            Ok(Session { client, connection })
        };
        // The client's own time-out is for TCP only.
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| Error {
            kind: Kind::Unavailable,
            code: "connect_timeout",
            place: "the login".into(),
            remedy: "look whether the database answers and its security group lets this function in".into(),
        })?
    }

    /// Whether the host is this machine; an error if it is and may not be. A URL with several hosts is refused: the
    /// second may be another history.
    fn goes_without_tls(&self, config: &Config) -> Result<bool> {
        let local = match (config.get_hosts(), config.get_hostaddrs()) {
            ([Host::Tcp(name)], []) => names_this_machine(name),
            #[cfg(unix)]
            ([Host::Unix(_)], []) => true,
            ([_], _) => return Err(bad_url("`hostaddr` would go round the check of the host's name")),
            _ => return Err(bad_url("it must name exactly one host")),
        };
        if local && !self.allow_loopback {
            return Err(bad_url("it names the machine of the function itself"));
        }
        Ok(local)
    }

    fn tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.root_certificates {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| bad_roots("the file is not PEM"))?;
                    roots.add(certificate).map_err(|_| bad_roots("the file holds what is no certificate"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(bad_roots("there are none"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| bad_roots("no version of TLS is left"))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn names_this_machine(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip == Ipv4Addr::UNSPECIFIED,
        Ok(IpAddr::V6(ip)) => ip.to_canonical().is_loopback() || ip == Ipv6Addr::UNSPECIFIED,
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn bad_url(why: &str) -> Error {
    let remedy = format!("{why}: write `postgresql://user:password@host:5432/database` into the secret");
    Error { kind: Kind::Misconfigured, code: "url", place: "the secret with the URL".into(), remedy }
}

fn bad_roots(why: &str) -> Error {
    let remedy = format!(
        "{why}: name a file with the certificate authority of the server (of RDS, its bundle) in `root_certificates`"
    );
    Error {
        kind: Kind::Misconfigured,
        code: "root_certificates",
        place: "the trusted certificates".into(),
        remedy,
    }
}

/// A column of a row of our own statements.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    at: usize,
) -> Result<T> {
    row.try_get(at).map_err(|error| failure("an answer of the server", &error))
}

/// What a failed statement means to a reader. `place` says what it was about; of the server's own words only the
/// SQLSTATE is kept.
pub(super) fn failure(place: &str, error: &tokio_postgres::Error) -> Error {
    let Some(state) = error.code() else { return broken(place, error) };
    let (kind, code, remedy) = meaning(state);
    Error { kind, code, place: format!("{place} (SQLSTATE {})", state.code()), remedy: remedy.into() }
}

fn broken(place: &str, error: &tokio_postgres::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        // An I/O error hides what it carries from `source`.
        let carried = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls =
            carried.and_then(|carried| carried.downcast_ref()).or(inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return Error {
                kind: Kind::Misconfigured,
                code: "certificate",
                place: place.into(),
                remedy: "the server's certificate is not trusted or not for this host: use the host's real name in \
                         the URL, and name its authority in `root_certificates` (RDS is not among the public ones)"
                    .into(),
            };
        }
        cause = inner.source();
    }
    Error {
        kind: Kind::Unavailable,
        code: "connection",
        place: place.into(),
        remedy:
            "the connection failed or broke; look whether the database runs, offers TLS and can be reached"
                .into(),
    }
}

fn meaning(state: &SqlState) -> (Kind, &'static str, &'static str) {
    let code = state.code();
    match state {
        &SqlState::OBJECT_IN_USE => (Kind::Busy, "busy", "another session reads the slot; it will end"),
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => (
            Kind::Misconfigured,
            "authentication_failed",
            "the server refuses the role or its password: renew the secret, or let the role log in from here",
        ),
        &SqlState::INVALID_CATALOG_NAME => {
            (Kind::Misconfigured, "no_database", "the database is not there: correct the URL")
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => (
            Kind::Misconfigured,
            "no_permission",
            "grant what infra/sql says; where row security is on, the role needs BYPASSRLS",
        ),
        &SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME => (
            Kind::Misconfigured,
            "no_table",
            "the table is not there: correct the source's file, or run infra/sql",
        ),
        &SqlState::UNDEFINED_COLUMN => (
            Kind::Misconfigured,
            "no_column",
            "the column is not there: correct the model or the source's file",
        ),
        &SqlState::UNDEFINED_OBJECT | &SqlState::UNDEFINED_FUNCTION => {
            (Kind::Misconfigured, "not_set_up", "something that infra/sql creates is missing: run it")
        }
        &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {
            (Kind::Misconfigured, "not_ready", "the server is not set up for this (is wal_level logical?)")
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            (Kind::Misconfigured, "read_only", "the server only reads: point the URL at the primary")
        }
        &SqlState::LOCK_NOT_AVAILABLE => (
            Kind::Unavailable,
            "waited_too_long",
            "something holds a lock for long; the next run tries again",
        ),
        &SqlState::QUERY_CANCELED => (
            Kind::Unavailable,
            CANCELED,
            "the statement took longer than it may, or somebody broke it off; the next run tries again",
        ),
        // Connection, rollback, resources, operator intervention, system, internal.
        _ if ["08", "40", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
            (Kind::Unavailable, "server", "the server is starting, stopping, full or in trouble; see its log")
        }
        _ => (Kind::Misconfigured, "refused", "the server refuses the statement; look its SQLSTATE up"),
    }
}
