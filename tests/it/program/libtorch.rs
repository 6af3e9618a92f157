//! libtorch and the object that computes with it: found wherever they lie, and named where
//! something is wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Desk, Ran, program};

const OBJECT: &str = "libdgx_pixels_torch.so";
const DRAW: [&str; 9] =
    ["generate", "key", "--model", "models/tiny", "--steps", "1", "--device", "cpu", "--quiet"];

fn desk() -> Desk {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    desk
}

/// The object that `make torch` has built beside the program.
fn object() -> PathBuf {
    program().with_file_name(OBJECT)
}

/// The libtorch that the object was built with.
fn libtorch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".torch")
}

/// A copy of the program in a folder of its own, with nothing beside it.
fn moved(desk: &Desk) -> PathBuf {
    fs::create_dir(desk.path("bin")).unwrap();
    fs::copy(program(), desk.path("bin/dgx-pixels")).unwrap();
    desk.path("bin/dgx-pixels")
}

/// A copy of the program, the object and a link to libtorch, as they lie in a checkout.
fn checkout(desk: &Desk) -> PathBuf {
    let folder = desk.path("checkout/target/release");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(program(), folder.join("dgx-pixels")).unwrap();
    fs::copy(object(), folder.join(OBJECT)).unwrap();
    symlink(libtorch(), desk.path("checkout/.torch")).unwrap();
    folder.join("dgx-pixels")
}

/// The arguments, run by another copy of the program, to which no variable names libtorch.
fn by(program: &Path, desk: &Desk, args: &[&str]) -> Command {
    let model = desk.command(args);
    let mut command = Command::new(program);
    command.args(model.get_args()).current_dir(desk.path(""));
    for (name, value) in model.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    for name in ["LIBTORCH", "VIRTUAL_ENV", "CONDA_PREFIX", "DGX_PIXELS_TORCH"] {
        command.env_remove(name);
    }
    command
}

/// A folder that states a version and holds `library` under libtorch's name.
fn fake_libtorch(desk: &Desk, version: &str, library: &[u8]) -> PathBuf {
    fs::create_dir_all(desk.path("torch/lib")).unwrap();
    fs::write(desk.path("torch/lib/libtorch_cpu.so"), library).unwrap();
    fs::write(desk.path("torch/version.py"), format!("__version__ = '{version}'\n")).unwrap();
    desk.path("torch")
}

#[test]
fn a_moved_program_finds_the_object_in_lib_and_libtorch_by_a_variable() {
    let desk = desk();
    let program = moved(&desk);
    fs::create_dir(desk.path("lib")).unwrap();
    fs::copy(object(), desk.path("lib").join(OBJECT)).unwrap();
    // A link to the program is as good as the program.
    fs::create_dir(desk.path("elsewhere")).unwrap();
    symlink(&program, desk.path("elsewhere/dgx-pixels")).unwrap();
    for program in [program, desk.path("elsewhere/dgx-pixels")] {
        let ran = Ran::of(by(&program, &desk, &DRAW).args(["--force"]).env("LIBTORCH", libtorch()));
        assert_eq!((ran.code, ran.stdout.is_empty()), (Some(0), false), "{}", ran.stderr);
    }
}

#[test]
fn without_the_object_what_draws_nothing_works_and_a_drawing_says_where_it_was_looked_for() {
    let desk = desk();
    let program = moved(&desk);
    for works in [&["--help"][..], &["--version"], &["models"], &["completions", "bash"]] {
        assert_eq!(Ran::of(&mut by(&program, &desk, works)).code, Some(0), "{works:?}");
    }
    let sketch = ["generate", "key", "--model", "sketch", "--output", "sketch.png"];
    assert_eq!(Ran::of(&mut by(&program, &desk, &sketch)).code, Some(0));
    let drawn = Ran::of(&mut by(&program, &desk, &DRAW));
    assert_eq!(drawn.code, Some(21), "{}", drawn.stderr);
    for words in ["`libdgx_pixels_torch.so` is not found", "bin/libdgx_pixels_torch.so", "`make torch`"] {
        assert!(drawn.stderr.contains(words), "{words}: {}", drawn.stderr);
    }
    let doctor = Ran::of(&mut by(&program, &desk, &["doctor"]));
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.stdout.contains("mend       make torch"), "{}", doctor.stdout);
}

#[test]
fn an_object_of_another_version_is_named_before_it_is_loaded() {
    let desk = desk();
    let mut bytes = fs::read(object()).unwrap();
    let name = b"dgx_pixels_torch_4\0";
    let places: Vec<_> =
        bytes.windows(name.len()).enumerate().filter(|(_, window)| window == name).map(|(i, _)| i).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + name.len() - 2] = b'9';
    }
    fs::write(desk.path(OBJECT), bytes).unwrap();
    let ran = Ran::of(desk.command(DRAW).env("DGX_PIXELS_TORCH", desk.path(OBJECT)));
    let named = format!(
        "libtorch cannot be loaded: `DGX_PIXELS_TORCH` names `{}`, which is of another version: its border has version 9, \
         and this program needs 4. Install both from one release",
        desk.path(OBJECT).display()
    );
    ran.assert_failed(21, &named);
}

#[test]
fn a_library_that_is_cut_off_is_named_and_ends_no_process() {
    let desk = desk();
    let whole = fs::read(object()).unwrap();
    fs::write(desk.path(OBJECT), &whole[..whole.len() / 2]).unwrap();
    let cut = Ran::of(desk.command(DRAW).env("DGX_PIXELS_TORCH", desk.path(OBJECT)));
    assert_eq!(cut.code, Some(21), "{}", cut.stderr);
    assert!(cut.stderr.contains("which is cut off: it has "), "{}", cut.stderr);

    // The start of the object is the start of any library.
    let torch = fake_libtorch(&desk, "2.11.0+cpu", &whole[..whole.len() / 2]);
    let cut = Ran::of(desk.command(DRAW).env("LIBTORCH", torch));
    assert_eq!(cut.code, Some(21), "{}", cut.stderr);
    assert!(cut.stderr.contains("libtorch_cpu.so` is cut off: it has "), "{}", cut.stderr);
}

#[test]
fn a_libtorch_of_another_version_is_named_where_it_was_asked_for() {
    for version in ["2.10.0", "2.13.0"] {
        let desk = desk();
        let torch = fake_libtorch(&desk, &format!("{version}+cu130"), b"");
        let named = format!(
            "libtorch cannot be loaded: `LIBTORCH` names `{}`, which is libtorch {version}; expected 2.11.0",
            torch.display()
        );
        Ran::of(desk.command(DRAW).env("LIBTORCH", &torch)).assert_failed(21, &named);
    }
    let desk = desk();
    let named = format!(
        "libtorch cannot be loaded: `LIBTORCH` names `{}`, which holds no `lib/libtorch_cpu.so`; unset it, or name \
         libtorch 2.11.0",
        desk.path("models").display()
    );
    Ran::of(desk.command(DRAW).env("LIBTORCH", desk.path("models"))).assert_failed(21, &named);
}

#[test]
fn a_libtorch_of_another_version_in_the_environment_is_passed_over() {
    let desk = desk();
    let packages = desk.path("venv/lib/python3.12/site-packages");
    fs::create_dir_all(packages.join("torch/lib")).unwrap();
    fs::write(packages.join("torch/lib/libtorch_cpu.so"), "").unwrap();
    fs::write(packages.join("torch/version.py"), "__version__ = '2.13.0'\n").unwrap();
    let checkout = checkout(&desk);
    let drawn = Ran::of(by(&checkout, &desk, &DRAW).env("VIRTUAL_ENV", desk.path("venv")));
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);

    // If there is no other, the one that was passed over is named.
    fs::remove_file(desk.path("checkout/.torch")).unwrap();
    let alone = Ran::of(by(&checkout, &desk, &DRAW).env("VIRTUAL_ENV", desk.path("venv")).env("PATH", ""));
    assert_eq!(alone.code, Some(21), "{}", alone.stderr);
    for words in
        ["no libtorch 2.11.0 is found (`", "site-packages/torch/lib` is 2.13.0)", "`dgx-pixels setup`"]
    {
        assert!(alone.stderr.contains(words), "{words}: {}", alone.stderr);
    }
}

#[test]
fn neither_the_current_folder_nor_the_library_path_decides_what_is_loaded() {
    let desk = desk();
    let library = desk.path("LIBRARIES");
    fs::create_dir(&library).unwrap();
    for name in ["libtorch_cpu.so", "libc10.so", "libgomp.so.1", OBJECT] {
        fs::write(library.join(name), "not a library").unwrap();
        fs::write(desk.path(name), "not a library").unwrap();
    }
    fs::create_dir_all(desk.path(".torch/lib")).unwrap();
    fs::write(desk.path(".torch/lib/libtorch_cpu.so"), "not a library").unwrap();
    let drawn = Ran::of(by(&checkout(&desk), &desk, &DRAW).env("LD_LIBRARY_PATH", &library));
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
}

#[test]
fn a_gpu_without_a_driver_is_refused_before_anything_is_loaded() {
    if Path::new("/dev/nvidia0").exists() {
        return;
    }
    let desk = desk();
    let program = moved(&desk);
    let args = ["generate", "key", "--model", "models/tiny", "--device", "cuda", "--quiet"];
    Ran::of(&mut by(&program, &desk, &args)).assert_failed(
        4,
        "device `cuda:0` is not available: no NVIDIA driver is installed (`libcuda.so.1` is not found)",
    );
}
