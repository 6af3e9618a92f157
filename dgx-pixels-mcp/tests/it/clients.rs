//! Python's MCP clients.

use std::path::Path;
use std::process::Command;

/// Left out where there is no Python for it, as the README says.
#[test]
fn live_python_clients_make_sprites_over_every_transport() {
    let folder = tempfile::tempdir().unwrap();
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Command::new(crate_folder.join("../.venv/bin/python"))
        .arg(crate_folder.join("tests/clients.py"))
        .arg(env!("CARGO_BIN_EXE_dgx-pixels-mcp"))
        .arg(folder.path().join("assets"))
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&python.stdout);
    assert!(python.status.success(), "{said}{}", String::from_utf8_lossy(&python.stderr));
    assert_eq!(said.matches(": ok").count(), 7, "{said}");
}
