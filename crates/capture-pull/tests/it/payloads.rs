use std::collections::HashSet;
use std::path::Path;

use capture_pull::payload::{Payload, Work};

#[test]
fn the_sample_events_are_payloads_of_the_shipped_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let layer = root.join("infra/layer/sync");
    let config = sync_lambda::config::load(&[("SYNC_CONFIG_DIR", layer.to_str().unwrap())]).unwrap();
    let mut kinds = HashSet::new();
    for file in std::fs::read_dir(root.join("events/capture-pull")).unwrap() {
        let path = file.unwrap().path();
        let payload: Payload = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let source = config.source(&payload.source).unwrap();
        assert!(source.postgres.is_some(), "{}", path.display());
        if let Work::Backfill(backfill) = &payload.work {
            assert!(source.writes(&backfill.model), "{}", path.display());
        }
        kinds.insert(std::mem::discriminant(&payload.work));
    }
    assert_eq!(kinds.len(), 9, "one sample for each kind of work");
}
