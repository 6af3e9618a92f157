//! The control nets of a model, and what they add to the rows of a step.

use tch::{Kind, Tensor};

use super::Result;
use super::blocks::Conditioning;
use super::canvas::{Row, SdxlCanvas};
use super::control::{ControlNet, Followed};
use super::device::place;
use super::edges;
use crate::error::Error;
use crate::request::{RequestError, ResolvedRequest};

/// Control nets by their names.
pub(super) struct Controls(Vec<(String, ControlNet)>);

/// A row of a UNet's pass, and its canvas.
pub(super) struct ControlledRow<'a> {
    pub(super) canvas: &'a SdxlCanvas,
    pub(super) row: &'a Row,
    /// The canvas's latents, scaled for the coming step.
    pub(super) scaled: &'a Tensor,
}

/// The place of a control among the rows of a pass.
struct Entry<'a> {
    /// The number of the row.
    row: usize,
    of: &'a ControlledRow<'a>,
    /// The number of the control in its request.
    control: usize,
}

impl Controls {
    pub(super) fn new(nets: Vec<(String, ControlNet)>) -> Controls {
        Controls(nets)
    }

    /// The net of each control of a request, with its place.
    ///
    /// # Errors
    /// [`RequestError::Image`] for a net that was not loaded with the model.
    pub(super) fn of(
        &self,
        request: &ResolvedRequest,
    ) -> std::result::Result<Vec<(usize, &ControlNet)>, Error> {
        let net = |name: &str| {
            let found = self.0.iter().enumerate().find(|(_, (known, _))| known == name);
            found.map(|(i, (_, net))| (i, net)).ok_or_else(|| {
                let names: Vec<_> = self.0.iter().map(|(known, _)| format!("`{known}`")).collect();
                let there_are = if names.is_empty() { "none".into() } else { names.join(", ") };
                let text = format!("has `{name}`; the nets that were loaded with the model are {there_are}");
                RequestError::image("control", text).into()
            })
        };
        request.control.iter().map(|control| net(&control.model)).collect()
    }

    /// All that the nets read of a text, each as [`ControlNet::keys_values`] makes it.
    pub(super) fn keys_values(&self, text: &Tensor) -> Result<Vec<Tensor>> {
        self.0.iter().map(|(_, net)| net.keys_values(text)).collect()
    }

    /// Embeds the images that a request's controls follow; the nets are [there](Self::of).
    pub(super) fn followed(
        &self,
        request: &ResolvedRequest,
        kind: Kind,
        device: tch::Device,
    ) -> Result<Vec<Followed>> {
        let mut followed = vec![];
        for control in &request.control {
            let named = self.0.iter().position(|(name, _)| *name == control.model);
            let (Some(net), Some(seen)) = (named, control.seen(request.size)) else { continue };
            let (width, height) = seen.dimensions();
            let pixels = place(&Tensor::f_from_slice(seen.as_raw())?, device)?
                .f_view([1, i64::from(height), i64::from(width), 3])?
                .f_permute([0, 3, 1, 2])?
                .f_to_kind(Kind::Float)?
                .f_div_scalar(255.0)?
                .f_to_kind(kind)?;
            let image = edges::within(request.wrap, || self.0[net].1.embed_image(&pixels))?;
            followed.push(Followed { net, scale: control.scale, image });
        }
        Ok(followed)
    }

    /// The sums that all nets add to the rows of a pass, whose texts have this many tokens and
    /// whose edges meet alike: one tensor for each skip of the UNet and one for its middle, each
    /// with all rows, zeros for those without control. For rows that go without the inner levels,
    /// those of the outermost level alone. `None` if no control acts.
    pub(super) fn residuals(&self, rows: &[ControlledRow], tokens: i64) -> Result<Option<Vec<Tensor>>> {
        let mut sums: Vec<Option<Vec<Tensor>>> = rows.iter().map(|_| None).collect();
        for (place, (_, net)) in self.0.iter().enumerate() {
            // 1. the rows that this net acts on, in the order of the pass: those without text first
            let entries = rows.iter().enumerate().flat_map(|(row, of)| {
                let acts = move |control: &usize| {
                    of.canvas.followed[*control].net == place && of.canvas.follows(*control)
                };
                let controls = (0..of.canvas.followed.len()).filter(acts);
                controls.map(move |control| Entry { row, of, control })
            });
            let entries: Vec<Entry> = entries.collect();
            if entries.is_empty() {
                continue;
            }

            // 2. one pass for all
            let samples: Vec<_> = entries.iter().map(|entry| entry.of.scaled).collect();
            let images: Vec<_> = entries.iter().map(|entry| &entry.followed().image).collect();
            let times = entries
                .iter()
                .map(|entry| entry.of.canvas.time(&entry.of.row.of_controls[entry.control].time));
            let times = times.collect::<Result<Vec<_>>>()?;
            let texts: Vec<_> = entries
                .iter()
                .filter_map(|entry| entry.of.row.of_controls[entry.control].text.as_ref())
                .collect();
            let time = Tensor::f_cat(&times, 0)?;
            // A canvas's row of zeros goes where its prompt goes, so there is a text.
            let texts = Tensor::f_cat(&texts, 0)?;
            let conditioning = Conditioning { time: &time, texts: &texts, tokens };
            let (sample, image) = (Tensor::f_cat(&samples, 0)?, Tensor::f_cat(&images, 0)?);
            let canvas = entries[0].of.canvas;
            let made = edges::within(canvas.request.wrap, || {
                net.forward(&sample, &image, &conditioning, canvas.is_shallow())
            })?;

            // 3. each row's share
            for (n, entry) in entries.iter().enumerate() {
                let scale = entry.followed().scale;
                let share = made.iter().map(|made| made.f_narrow(0, n as i64, 1)?.f_mul_scalar(scale));
                let share = share.collect::<Result<Vec<_>>>()?;
                sums[entry.row] = Some(match sums[entry.row].take() {
                    None => share,
                    Some(before) => {
                        let both = before.iter().zip(&share).map(|(before, share)| before.f_add(share));
                        both.collect::<Result<_>>()?
                    }
                });
            }
        }
        let Some(like) = sums.iter().flatten().next() else { return Ok(None) };
        let zeros = like.iter().map(Tensor::f_zeros_like).collect::<Result<Vec<_>>>()?;
        let all = (0..zeros.len()).map(|level| {
            let of_row = |sum: &Option<Vec<Tensor>>| match sum {
                Some(sum) => sum[level].shallow_clone(),
                None => zeros[level].shallow_clone(),
            };
            Tensor::f_cat(&sums.iter().map(of_row).collect::<Vec<_>>(), 0)
        });
        all.collect::<Result<_>>().map(Some)
    }
}

impl Entry<'_> {
    fn followed(&self) -> &Followed {
        &self.of.canvas.followed[self.control]
    }
}
