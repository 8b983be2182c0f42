//! `datasync filter-policy`: what to write into the template for a target.

use std::io::Write;
use std::path::Path;

use sync_config::SyncConfig;
use sync_domain::config::filter::FilterPolicy;
use sync_domain::id::TargetId;

use crate::template::{NO_SECRET, NO_TABLE, invoke, logical_name};
use crate::{Error, validate};

pub(crate) fn run(target: &TargetId, dir: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let files = validate::read(dir)?;
    let config = SyncConfig::parse(&files).map_err(|_| Error::NoTarget(target.clone()))?;
    let found = config.target(target).ok_or_else(|| Error::NoTarget(target.clone()))?;
    let policy = FilterPolicy::of(found);
    writeln!(out, "    {}:", logical_name(target.as_str()))?;
    writeln!(out, "      Name: {target}")?;
    writeln!(out, "      Secret: {}", found.endpoint.secret().unwrap_or(NO_SECRET))?;
    writeln!(out, "      Table: {}", found.endpoint.table().unwrap_or(NO_TABLE))?;
    if let Some((sigv4, url)) = invoke::signed(found) {
        writeln!(out, "      InvokeArn: {}", invoke::outline(sigv4, url))?;
    }
    writeln!(out, "      Models: [{}]", policy.models.join(", "))?;
    writeln!(out, "      Operations: [{}]", policy.operations.join(", "))?;
    writeln!(out, "      Changed: [{}]", policy.changed.join(", "))?;
    // Each running function has one request in flight at least.
    let most = found.endpoint.limits().concurrency.map_or(5, |most| most.clamp(2, 5));
    writeln!(out, "      MaxConcurrency: {most}")?;
    Ok(())
}
