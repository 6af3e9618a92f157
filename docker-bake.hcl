// The images, for both architectures: `docker buildx bake`, or `docker buildx bake cpu` for one.

variable "REGISTRY" { default = "ghcr.io/dgx-pixels" }
variable "VERSION" { default = "0.2.0" }
variable "REVISION" { default = "unknown" }

group "default" {
  targets = ["tools", "cpu", "cuda"]
}

target "image" {
  context   = "."
  platforms = ["linux/amd64", "linux/arm64"]
  args = {
    VERSION  = VERSION
    REVISION = REVISION
  }
  attest = ["type=provenance,mode=max", "type=sbom"]
}

target "tools" {
  inherits = ["image"]
  target   = "tools"
  tags     = ["${REGISTRY}/dgx-pixels:${VERSION}-tools"]
}

target "cpu" {
  inherits = ["image"]
  target   = "cpu"
  tags     = ["${REGISTRY}/dgx-pixels:${VERSION}-cpu", "${REGISTRY}/dgx-pixels:${VERSION}"]
}

target "cuda" {
  inherits = ["image"]
  target   = "cuda"
  tags     = ["${REGISTRY}/dgx-pixels:${VERSION}-cuda"]
}
