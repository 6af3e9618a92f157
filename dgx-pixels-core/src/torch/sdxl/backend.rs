//! The calls of a [`Backend`]: texts and noise, a step of many canvases, and decoding.

use image::RgbImage;
use tch::Tensor;

use super::{Group, Sdxl, Turn};
use crate::backend::{Backend, Canvas, Decoding, Latents};
use crate::error::Error;
use crate::pixel::Wrap;
use crate::request::{ModelDefaults, ResolvedRequest};
use crate::torch::Result as TorchResult;
use crate::torch::canvas::{SdxlCanvas, State};
use crate::torch::cuda::Event;
use crate::torch::failed;
use crate::torch::preview::Preview;
use crate::torch::prompts::Words;

impl Backend for Sdxl {
    type Canvas = SdxlCanvas;

    fn defaults(&self) -> ModelDefaults {
        self.model.defaults()
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<SdxlCanvas>, Error> {
        let drafts = requests.iter().map(|request| self.draft(request)).collect::<Result<Vec<_>, _>>()?;
        let _turn = Turn::begin(self.device)?;
        let first_id = self.next_id;
        let texts: Vec<&[Words]> = drafts.iter().map(|draft| &*draft.texts).collect();
        let canvases = self.prompts.read(&texts, &self.unet, &self.controls).and_then(|()| {
            drafts.into_iter().zip(first_id..).map(|(draft, id)| self.canvas(draft, id)).collect()
        });
        self.prompts.forget();
        self.next_id += requests.len() as u64;
        canvases
    }

    fn step(&mut self, canvases: &mut [&mut SdxlCanvas]) -> Result<(), Error> {
        let _turn = Turn::begin(self.device)?;
        let device = self.device;
        let refused = |error| failed(error, device, "denoising");

        // 1. groups that can share a forward pass: those whose latents have one size, with the
        //    inner levels or without, and with the same edges that meet
        let mut groups: Vec<Group> = Vec::new();
        for (i, canvas) in canvases.iter_mut().enumerate() {
            if canvas.steps_done() == canvas.steps() {
                continue;
            }
            canvas.draw_noise().map_err(refused)?;
            let size = canvas.state.latents.size();
            let (shallow, wrap) = (canvas.is_shallow(), canvas.request.wrap);
            let fits =
                |group: &&mut Group| (&group.size, group.shallow, group.wrap) == (&size, shallow, wrap);
            match groups.iter_mut().find(fits) {
                Some(group) => group.canvases.push(i),
                None => groups.push(Group { size, shallow, wrap, canvases: vec![i] }),
            }
        }

        // 2. everything that may fail, with no canvas changed
        let mut moved = Vec::new();
        for Group { canvases: group, .. } in &groups {
            let group_canvases: Vec<&SdxlCanvas> = group.iter().map(|&i| &*canvases[i]).collect();
            let mut forward = || -> TorchResult<Vec<State>> {
                let outputs = self.predict(&group_canvases)?;
                group_canvases.iter().zip(&outputs).map(|(canvas, output)| canvas.advanced(output)).collect()
            };
            moved.extend(group.iter().copied().zip(forward().map_err(refused)?));
        }
        self.passes.forget();

        // 3. wait for the step before, so that the GPU has one to do while the next is prepared
        let event = Event::record(device).map_err(refused)?;
        if let Some(behind) = std::mem::replace(&mut self.behind, event) {
            behind.synchronize().map_err(refused)?;
        }

        // 4. the step itself
        for (i, state) in moved {
            canvases[i].state = state;
            canvases[i].noise = None;
        }
        Ok(())
    }

    fn finish(&mut self, canvases: &[&SdxlCanvas]) -> Result<Decoding, Error> {
        let _turn = Turn::begin(self.device)?;
        let latents: Vec<(Tensor, Wrap)> = canvases
            .iter()
            .map(|canvas| (canvas.state.latents.shallow_clone(), canvas.request.wrap))
            .collect();
        let kind = |(latents, wrap): &(Tensor, Wrap)| (latents.size(), *wrap);
        let alike = latents.windows(2).all(|pair| kind(&pair[0]) == kind(&pair[1]));
        if self.vae_slicing || !alike || canvases.is_empty() {
            return self.decode(&latents);
        }
        let wrap = canvases[0].request.wrap;
        let latents: Vec<Tensor> = latents.into_iter().map(|(latents, _)| latents).collect();
        let together = Tensor::f_cat(&latents, 0).map_err(|error| failed(error, self.device, "decoding"))?;
        self.decode(&[(together, wrap)])
    }

    fn preview(&mut self, canvas: &SdxlCanvas) -> Result<RgbImage, Error> {
        let _turn = Turn::begin(self.device)?;
        let refused = |error| failed(error, self.device, "previewing");
        if self.preview.is_none() {
            self.preview = Some(Preview::fit(&self.vae, self.device, self.vae_dtype).map_err(refused)?);
        }
        let preview = self.preview.as_ref().expect("made just now");
        // The sample is noisy until the end; what the last step took it for is not.
        let latents = canvas.state.previous[0].as_ref().unwrap_or(&canvas.state.latents);
        let picture = preview.draw(latents).map_err(refused)?;
        picture.ok_or(Error::NotFinite { what: "the latents", dtype: self.dtype.as_str() })
    }

    fn latents(&mut self, canvas: &SdxlCanvas) -> Result<Latents, Error> {
        let _turn = Turn::begin(self.device)?;
        canvas.latents()
    }
}
