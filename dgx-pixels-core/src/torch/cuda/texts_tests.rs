//! Every text of kernels is compiled for the GPUs of each kind, on a machine without a GPU, and
//! held against a table of what each kernel takes of a multiprocessor.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, thread};

use super::nvrtc::Nvrtc;
use super::texts::{Text, options};
use crate::device::Dtype;

/// The folder of the NVRTC that `make setup-test` installs: one version, so that the table holds.
const NVRTC_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/nvrtc");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kernels.txt");
const HEAD: &str = "\
# What each kernel takes of a multiprocessor, as the compiler of CUDA 13.0 reports it. Shared memory
# is what the text declares; what a launch asks for comes on top. Columns:
# text, architecture, numbers, kernel, registers of a thread, bytes of shared memory, bytes of spill
# stores, bytes of spill loads, fences before `wgmma` that the compiler added.
# UPDATE_KERNELS=1 make test-torch writes it anew.
";
/// GPUs with these compute capabilities: A100, L40 and RTX 40, H100 and H200, B200, RTX 50, and
/// DGX Spark.
const GPUS: [(u32, u32); 6] = [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1)];
/// All of them, the slowest first.
const TEXTS: [Text; 4] = [Text::ProductsE4m3, Text::LinearGeglu, Text::Convolve, Text::Kernels];

/// What one kernel takes, in the order of the table's last columns.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    kernel: String,
    registers: u32,
    shared_bytes: u32,
    spill_store_bytes: u32,
    spill_load_bytes: u32,
    added_fences: usize,
}

impl Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Usage { kernel, registers, shared_bytes, .. } = self;
        let Usage { spill_store_bytes, spill_load_bytes, added_fences, .. } = self;
        write!(f, "{kernel} {registers} {shared_bytes} ")?;
        write!(f, "{spill_store_bytes} {spill_load_bytes} {added_fences}")
    }
}

/// Returns the number before `unit` in a line such as `Used 35 registers, used 1 barriers`.
fn number_before(line: &str, unit: &str) -> Option<u32> {
    line.split(',').find_map(|part| part.trim().strip_suffix(unit)?.split_whitespace().last()?.parse().ok())
}

/// Reads what ptxas prints of each kernel when it is verbose. The error is every other line: a
/// warning, or a note that it could not do what the text asks for.
fn usages(log: &str) -> Result<Vec<Usage>, String> {
    let mut usages: Vec<Usage> = vec![];
    let (mut fences, mut others) = (vec![], vec![]);
    let mut complete = 0;
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        let said = line.strip_prefix("ptxas").and_then(|rest| rest.split_once(':').or(rest.split_once('.')));
        let said = said.map_or(line, |(_, said)| said.trim());
        let name = |said: &str| said.split('\'').nth(1).map(str::to_owned);
        let spills = (number_before(said, " bytes spill stores"), number_before(said, " bytes spill loads"));
        if said.starts_with("Compiling entry function")
            && let Some(kernel) = name(said)
        {
            usages.push(Usage { kernel, ..Usage::default() });
        } else if let (Some(stores), Some(loads), Some(usage)) = (spills.0, spills.1, usages.last_mut()) {
            (usage.spill_store_bytes, usage.spill_load_bytes) = (stores, loads);
        } else if let (Some(registers), Some(usage)) = (number_before(said, " registers"), usages.last_mut())
        {
            usage.registers = registers;
            usage.shared_bytes = number_before(said, " bytes smem").unwrap_or(0);
            complete += 1;
        } else if said.starts_with("(C7519) warpgroup.arrive is injected")
            && let Some(kernel) = name(said)
        {
            fences.push(kernel);
        } else if !["Function properties for ", "Compile time = "].iter().any(|known| said.starts_with(known))
            && number_before(said, " bytes gmem").is_none()
        {
            others.push(line);
        }
    }
    for usage in &mut usages {
        usage.added_fences = fences.iter().filter(|kernel| **kernel == usage.kernel).count();
    }
    match others.is_empty() {
        false => Err(others.join("\n")),
        true if usages.is_empty() || complete != usages.len() => {
            Err(format!("the compiler reports {} kernels, and registers of {complete}", usages.len()))
        }
        true => Ok(usages),
    }
}

/// Compiles one text as a GPU machine does, and returns its rows of the table.
fn rows(nvrtc: &Nvrtc, text: Text, gpu: (u32, u32), dtype: Dtype) -> Result<Vec<String>, String> {
    let source = text.source(gpu, options(dtype)?, 13000)?;
    let place = format!("{text:?} {} {dtype}", source.architecture);
    let compiled = nvrtc.compile(&source, &["--ptxas-options=--verbose"]);
    let usages = compiled.and_then(|compiled| usages(&compiled.log));
    let usages = usages.map_err(|error| format!("{place}: {error}"))?;
    Ok(usages.iter().map(|usage| format!("{place} {usage}")).collect())
}

#[test]
fn texts_compile_for_every_gpu_without_a_warning_and_take_what_the_table_says() {
    let nvrtc = Nvrtc::open_in(Path::new(NVRTC_FOLDER))
        .unwrap_or_else(|error| panic!("{error}; `make setup-test` installs NVIDIA's compiler"));
    let mut jobs = vec![];
    for (text, gpu) in TEXTS.into_iter().flat_map(|text| GPUS.map(|gpu| (text, gpu))) {
        if text.architecture(gpu).is_some() {
            jobs.extend([Dtype::Bf16, Dtype::F16].map(|dtype| (text, gpu, dtype)));
        }
    }
    let jobs = Mutex::new(jobs.into_iter());
    let compiled = Mutex::new(vec![]);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((text, gpu, dtype)) = { jobs.lock().unwrap().next() } {
                    let rows = rows(&nvrtc, text, gpu, dtype);
                    compiled.lock().unwrap().push(rows);
                }
            });
        }
    });
    let (mut taken, mut faults) = (BTreeSet::new(), BTreeSet::new());
    for rows in compiled.into_inner().unwrap() {
        match rows {
            Ok(rows) => taken.extend(rows),
            Err(fault) => _ = faults.insert(fault),
        }
    }
    let lines = |set: &BTreeSet<String>| set.iter().map(|line| format!("{line}\n")).collect::<String>();
    assert!(faults.is_empty(), "these texts have faults:\n{}", lines(&faults));
    if env::var_os("UPDATE_KERNELS").is_some() {
        fs::write(TABLE, format!("{HEAD}{}", lines(&taken))).unwrap();
        return;
    }
    let table = fs::read_to_string(TABLE).unwrap();
    let expected = table.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let (gone, new) = (&expected - &taken, &taken - &expected);
    assert!(
        gone.is_empty() && new.is_empty(),
        "kernels take something else than `{TABLE}` says; UPDATE_KERNELS=1 writes it anew\n\
         in the table:\n{}compiled:\n{}",
        lines(&gone),
        lines(&new)
    );
}

#[test]
fn every_cuda_file_is_part_of_a_text_that_is_compiled() {
    let texts = TEXTS.map(|text| text.source((9, 0), &[], 13000).unwrap().text);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/torch/cuda");
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "cu") {
            let file = fs::read_to_string(&path).unwrap();
            assert!(texts.iter().any(|text| text.contains(&file)), "{}", path.display());
        }
    }
}

#[test]
fn a_log_has_the_usage_of_each_kernel_and_any_other_line_is_a_fault() {
    let log =
        "ptxas info    : (C7519) warpgroup.arrive is injected in around line 7 by compiler in function 'add'
ptxas info    : 20 bytes gmem
ptxas info    : Compiling entry function 'add' for 'sm_90'
ptxas info    : Function properties for add
ptxas         .     16 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 35 registers, used 0 barriers, 16 bytes smem
ptxas info    : Compile time = 34.155 ms
";
    let add = Usage {
        kernel: "add".into(),
        registers: 35,
        shared_bytes: 16,
        spill_store_bytes: 12,
        spill_load_bytes: 24,
        added_fences: 1,
    };
    assert_eq!(usages(log), Ok(vec![add]));
    for other in [
        "kernels.cu(3): warning #177-D: variable \"x\" was declared but never referenced",
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized",
        "ptxas warning : Value of threads per SM is out of range",
    ] {
        assert_eq!(usages(&format!("{log}{other}\n")), Err(other.into()));
    }
    assert!(usages("").is_err());
    assert!(usages("ptxas info    : Compiling entry function 'add' for 'sm_90'").is_err());
}

#[test]
fn a_text_is_for_the_gpus_that_can_run_it() {
    assert_eq!(Text::Kernels.architecture((7, 5)), None);
    assert_eq!(Text::Kernels.architecture((12, 1)).unwrap(), "sm_121");
    assert_eq!(Text::Convolve.architecture((9, 0)).unwrap(), "sm_90a");
    assert_eq!(Text::Convolve.architecture((10, 0)), None);
    assert!(Text::Kernels.source((7, 5), &[], 13000).is_err_and(|error| error.contains("7.5")));
    assert!(options(Dtype::F32).is_err());
}
