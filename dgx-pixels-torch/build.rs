//! Names the object for the loader, and lets it find libtorch where a program has not loaded it:
//! beside the object, or in the torch package beside its own.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdgx_pixels_torch.so");
    // Of the libraries inside nothing is exported.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/../torch/lib");
    // Examples are linked to libtorch, and find it without `LD_LIBRARY_PATH`.
    if let Ok(lib) = std::env::var("DEP_DGX_PIXELS_CORE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg-examples=-Wl,-rpath,{lib}");
    }
}
