//! What stands for models with a folder in a build without libtorch: types without a value.

use image::RgbImage;

use super::{LocalOptions, needs_libtorch};
use crate::backend::{Backend, Canvas, Decoding, DeviceMemory, ModelInfo};
use crate::device::Device;
use crate::error::Error;
use crate::model::Model;
use crate::request::{ModelDefaults, ResolvedRequest};

pub(super) const IS_BUILT_IN: bool = false;

#[derive(Clone)]
pub(super) enum Folders {}

impl Folders {
    pub(super) fn new(models: Vec<(String, Model)>, _: LocalOptions) -> Result<Folders, Error> {
        Err(needs_libtorch(models.first().map_or("", |(name, _)| name)))
    }

    pub(super) fn with(self, _: LocalOptions) -> Folders {
        self
    }

    pub(super) fn devices(&self, _: Device) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        match *self {}
    }

    pub(super) fn describe(&self, _: &str, _: &str) -> Result<ModelInfo, Error> {
        match *self {}
    }

    pub(super) fn load(&self, _: &str, _: &str, _: &mut dyn FnMut(u64)) -> Result<Sdxl, Error> {
        match *self {}
    }

    pub(super) fn hash(&self, _: &str) -> Result<Option<String>, Error> {
        match *self {}
    }
}

pub(super) enum Sdxl {}

pub(super) enum SdxlCanvas {}

impl Backend for Sdxl {
    type Canvas = SdxlCanvas;

    fn defaults(&self) -> ModelDefaults {
        match *self {}
    }

    fn begin(&mut self, _: &[ResolvedRequest]) -> Result<Vec<SdxlCanvas>, Error> {
        match *self {}
    }

    fn step(&mut self, _: &mut [&mut SdxlCanvas]) -> Result<(), Error> {
        match *self {}
    }

    fn finish(&mut self, _: &[&SdxlCanvas]) -> Result<Decoding, Error> {
        match *self {}
    }

    fn preview(&mut self, _: &SdxlCanvas) -> Result<RgbImage, Error> {
        match *self {}
    }
}

impl Canvas for SdxlCanvas {
    fn request(&self) -> &ResolvedRequest {
        match *self {}
    }

    fn steps_done(&self) -> usize {
        match *self {}
    }

    fn steps(&self) -> usize {
        match *self {}
    }

    fn rows(&self) -> usize {
        match *self {}
    }

    fn dropped_words(&self) -> Option<&str> {
        match *self {}
    }
}
