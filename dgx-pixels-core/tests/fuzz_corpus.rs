//! Every input of the fuzz targets' corpora, those that once failed among them, with the targets' own code.

#![cfg(feature = "deploy")]

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpora_is_read_or_refused() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (name, target) in targets::ALL {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "`{name}` is a target of cargo-fuzz");
        let inputs: Vec<_> = fs::read_dir(fuzz.join("corpus").join(name)).unwrap().flatten().collect();
        assert!(inputs.len() > 1, "`{name}` has a corpus");
        for input in inputs {
            // What fails is the last that is printed.
            println!("{name}: {}", input.path().display());
            target(&fs::read(input.path()).unwrap());
        }
    }
}

#[test]
fn the_corpora_are_small() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let folders = fs::read_dir(corpus).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 1 << 20, "the corpora have {bytes} bytes; expected less than 1 MiB");
}
