//! Compiles the few calls that tch lacks, and tells programs where libtorch lies.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(all(feature = "torch", not(feature = "doc-only")))]
    torch();
}

#[cfg(all(feature = "torch", not(feature = "doc-only")))]
fn torch() {
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names libtorch's lib folder");
    let root = std::path::Path::new(&lib).parent().expect("libtorch's lib folder has a parent");
    let sources = ["src/torch/device.cpp", "src/torch/cuda/stream.cpp"];
    for path in sources.iter().chain(&["src/torch/guarded.h"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    // libtorch's headers are the system's: their warnings are not ours.
    let headers = ["include", "include/torch/csrc/api/include"];
    let headers = headers.map(|path| format!("-isystem{}", root.join(path).display()));
    // In a checkout of the project. Elsewhere a newer compiler with new warnings must not stop a
    // build.
    let is_checkout = std::path::Path::new("../dgx-pixels-torch").exists();
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(is_checkout)
        .flags(headers)
        .files(sources)
        .compile("dgx_pixels_device");
    // torch-sys's own rpath never reaches a final link; build.rs of a program repeats this line
    // with DEP_DGX_PIXELS_CORE_LIBTORCH_LIB.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo::metadata=libtorch_lib={lib}");
}
