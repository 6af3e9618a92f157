//! Which safetensors files hold a component's weights, and what their headers say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::error::Error;

/// The weight files of one component: one file, or shards under an index.
#[derive(Debug)]
pub struct WeightFiles {
    /// The component's folder.
    pub dir: PathBuf,
    /// In the order of their names.
    pub shards: Vec<Shard>,
}

/// One memory-mapped safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct Shard {
    /// Where it lies.
    pub path: PathBuf,
    /// The whole file; pages are read when touched.
    pub bytes: Mmap,
    /// Names, dtypes, shapes and places of its tensors.
    pub metadata: Metadata,
    /// Offset of the first tensor's bytes in the file.
    pub data_start: usize,
}

impl WeightFiles {
    /// Finds and maps the weights of the component in `dir`. `stem` is `model` for transformers' components and
    /// `diffusion_pytorch_model` for diffusers'. Of plain and `fp16` files the preferred ones are taken, or those
    /// there are.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: none found, a shard missing, truncated or corrupt.
    pub fn open(dir: &Path, stem: &str, prefer_fp16: bool) -> Result<Self, Error> {
        let plain = [format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors")];
        let fp16 = [format!("{stem}.safetensors.index.fp16.json"), format!("{stem}.fp16.safetensors")];
        let order = if prefer_fp16 { fp16.iter().chain(&plain) } else { plain.iter().chain(&fp16) };
        let Some(found) = order.map(|name| dir.join(name)).find(|path| path.is_file()) else {
            return Err(fault(dir, format!("no weights; expected `{}` or an index of shards", plain[1])));
        };
        let paths = if found.extension().is_some_and(|extension| extension == "json") {
            shard_paths(dir, &found)?
        } else {
            vec![found]
        };
        let shards = paths.into_iter().map(Shard::open).collect::<Result<_, _>>()?;
        Ok(WeightFiles { dir: dir.to_owned(), shards })
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors().map(|info| info.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|info| (info.data_offsets.1 - info.data_offsets.0) as u64).sum()
    }

    /// The precisions that occur, as `f32` or `f16`.
    pub fn dtypes(&self) -> Vec<String> {
        let words: BTreeSet<_> = self.tensors().map(|info| dtype_word(info.dtype)).collect();
        words.into_iter().collect()
    }

    fn tensors(&self) -> impl Iterator<Item = &safetensors::tensor::TensorInfo> {
        self.shards.iter().flat_map(|shard| shard.metadata.tensors().into_values())
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|error| fault(&path, error.to_string()))?;
        // SAFETY: a mapping is undefined if another process truncates the file meanwhile. Weights are not written
        // while they are in use, and every loader of safetensors relies on that.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|error| fault(&path, error.to_string()))?;
        let (header_len, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| {
            fault(&path, format!("truncated or corrupt ({} bytes): {error}", bytes.len()))
        })?;
        Ok(Shard { path, bytes, metadata, data_start: header_len + 8 })
    }
}

/// The word for a safetensors precision, as `f32`.
pub fn dtype_word(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

fn shard_paths(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Error> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, Value>,
    }
    let text = std::fs::read_to_string(index).map_err(|error| fault(index, error.to_string()))?;
    let Index { weight_map } = serde_json::from_str(&text)
        .map_err(|error| fault(index, format!("not an index of shards: {error}")))?;
    let mut names = BTreeSet::new();
    for (tensor, shard) in &weight_map {
        match shard.as_str() {
            Some(name) if Path::new(name).components().count() == 1 => names.insert(name),
            _ => {
                return Err(fault(
                    index,
                    format!("`{tensor}` lies in {shard}; expected the name of a file beside the index"),
                ));
            }
        };
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn fault(path: &Path, reason: String) -> Error {
    Error::Model { path: path.to_owned(), reason }
}
