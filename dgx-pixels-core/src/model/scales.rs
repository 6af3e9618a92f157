//! Weights in 8 bits, and the factors that lie beside them.
//!
//! A number is the 8 bits times the factor of its tensor or of its row. ComfyUI calls the factor of
//! `X.weight` `X.scale_weight`; diffusers calls it `X.weight_scale`. A mark `scaled_fp8` says that
//! all weights in 8 bits have one. Without mark and factors the 8 bits are the number itself.

use safetensors::Dtype;

use super::files::{Scale, Weight};
use super::header::{Header, StoredTensor, shown};

/// The mark of a part whose weights in 8 bits all have factors. It stands after the part's prefix.
const MARK: &str = "scaled_fp8";

/// `true` for names of factors, of hints about inputs, and of marks. None is a weight.
pub(super) fn is_scale(name: &str) -> bool {
    const ENDINGS: [&str; 6] = [
        ".scale_weight",
        ".weight_scale",
        "_weight_scale",
        "_projection_scale",
        ".scale_input",
        ".input_scale",
    ];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
        || name.ends_with(".comfy_quant")
        || name.strip_suffix(MARK).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

/// `true` for the precisions of 8 bits.
pub(crate) fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// The tensor with its factors, if it has some.
///
/// # Errors
/// A sentence: factors that do not fit their tensor, a tensor that should have some and has none,
/// and factors of a tensor in another precision.
pub(super) fn weight(header: &Header, tensor: &StoredTensor) -> Result<Weight, String> {
    let name = &*tensor.name;
    let spelled = match name.strip_suffix(".weight") {
        Some(module) => [format!("{module}.scale_weight"), format!("{module}.weight_scale")],
        None => [format!("{name}_scale"), format!("{name}_scale_weight")],
    };
    let found = spelled.iter().find_map(|name| header.tensor(name));
    let mut weight = Weight::of(tensor);
    let Some(factors) = found else {
        let is_marked = header
            .tensors
            .iter()
            .filter_map(|mark| mark.name.strip_suffix(MARK))
            .any(|prefix| (prefix.is_empty() || prefix.ends_with('.')) && name.starts_with(prefix));
        if is_fp8(tensor.dtype) && is_marked {
            return Err(format!(
                "`{}` is in scaled fp8 and has no factor; expected `{}`",
                shown(name),
                shown(&spelled[0])
            ));
        }
        return Ok(weight);
    };
    let fault = |reason: String| format!("`{}` {reason}", shown(&factors.name));
    if !is_fp8(tensor.dtype) {
        return Err(fault(format!("is for `{}`, which is in {:?}; expected fp8", shown(name), tensor.dtype)));
    }
    if !matches!(factors.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(fault(format!("is in {:?}; expected `F32`, `F16` or `BF16`", factors.dtype)));
    }
    let (first, rest) = factors.shape.split_first().unwrap_or((&1, &[]));
    let is_fitting = *first == 1 || Some(first) == tensor.shape.first();
    if !is_fitting || rest.iter().any(|side| *side != 1) {
        return Err(fault(format!(
            "is {:?} and its weight {:?}; expected one factor, or one for each row",
            factors.shape, tensor.shape
        )));
    }
    weight.scale = Some(Scale { dtype: factors.dtype, count: *first, bytes: factors.bytes.clone() });
    Ok(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight_of(tensors: &[(&str, Dtype, &[usize])]) -> Result<Weight, String> {
        let stored = tensors
            .iter()
            .map(|(name, dtype, shape)| StoredTensor {
                name: (*name).into(),
                dtype: *dtype,
                shape: (*shape).into(),
                bytes: 0..shape.iter().product(),
            })
            .collect();
        let mut header = Header { tensors: stored, ..Header::default() };
        header.tensors.sort_by(|one, other| one.name.cmp(&other.name));
        weight(&header, header.tensor("a.weight").unwrap())
    }

    #[test]
    fn both_spellings_and_both_numbers_of_factors_are_read() {
        const WEIGHT: (&str, Dtype, &[usize]) = ("a.weight", Dtype::F8_E4M3, &[4, 2]);
        for name in ["a.scale_weight", "a.weight_scale"] {
            for (shape, count) in [(&[][..], 1), (&[1], 1), (&[4], 4), (&[4, 1], 4)] {
                let read = weight_of(&[WEIGHT, (name, Dtype::F32, shape)]).unwrap();
                assert_eq!(read.scale.unwrap().count, count, "{name}: {shape:?}");
                assert!(is_scale(name));
            }
        }
        assert_eq!(weight_of(&[WEIGHT]).unwrap().scale, None);
        for (tensors, reason) in [
            (
                &[WEIGHT, ("a.weight_scale", Dtype::F32, &[4, 3, 1])][..],
                "`a.weight_scale` is [4, 3, 1] and its weight [4, 2]; expected one factor, or one for each row",
            ),
            (
                &[WEIGHT, ("a.weight_scale", Dtype::U8, &[1])],
                "`a.weight_scale` is in U8; expected `F32`, `F16` or `BF16`",
            ),
            (
                &[("a.weight", Dtype::F16, &[4, 2]), ("a.scale_weight", Dtype::F32, &[])],
                "`a.scale_weight` is for `a.weight`, which is in F16; expected fp8",
            ),
            (
                &[WEIGHT, ("scaled_fp8", Dtype::F8_E4M3, &[2])],
                "`a.weight` is in scaled fp8 and has no factor; expected `a.scale_weight`",
            ),
        ] {
            assert_eq!(weight_of(tensors).unwrap_err(), reason);
        }
    }
}
