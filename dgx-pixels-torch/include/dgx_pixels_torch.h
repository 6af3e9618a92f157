/* The C border of libdgx_pixels_torch.so: SDXL models on libtorch, one denoising step at a time.
 *
 * What may cross: numbers, pointers to memory that its owner keeps, and UTF-8 texts, which are JSON where a message is
 * named. What may not: types of Rust or C++, panics, exceptions, and memory that one side allocates and the other frees.
 * The messages are those of `dgx-pixels-core/src/abi.rs`. A change of anything here, or of a message, raises the version.
 *
 * How to use it: check that the file exports `dgx_pixels_torch_4`, load libtorch 2.11.0, load the object, call the
 * symbol, call `start` once, then any of the functions. The object is never unloaded.
 *
 * Threads: a model and its canvases are used by one thread at a time, whichever it is, and a device too. `kernels`,
 * `matrix_rate`, `decoding_wait` and `decoding_free` may be called from any thread. A process that has forked does not
 * use the object afterwards.
 *
 * Handles that a caller passes are never null, and never those of another kind. */

#ifndef DGX_PIXELS_TORCH_H
#define DGX_PIXELS_TORCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DGX_PIXELS_TORCH_VERSION 4

/* How a call ended. */
enum {
  DGX_OK = 0,
  /* The sink was given a fault: {"kind","field","message","out_of_memory":null|["DEVICE","DOING"]}. */
  DGX_FAILED = 1,
  /* The object's code panicked; the sink was given the words. What the call was about is to be freed and not used. */
  DGX_PANICKED = 2
};

/* A text that the caller of a function, or of a sink, keeps. It does not end with a zero. */
typedef struct {
  const uint8_t *data;
  size_t len;
} dgx_text;

/* A place for an answer. `write` is called at most once, during the call that was given the sink. */
typedef struct {
  void *context;
  void (*write)(void *context, dgx_text text);
} dgx_sink;

/* A place for images: `write` is called once an image, with width * height * 3 bytes, red, green and blue. */
typedef struct {
  void *context;
  void (*write)(void *context, uint32_t width, uint32_t height, const uint8_t *rgb);
} dgx_image_sink;

/* A place for latents: `write` is called once, with channels * height * width numbers, row by row. */
typedef struct {
  void *context;
  void (*write)(void *context, uint32_t channels, uint32_t height, uint32_t width, const float *values);
} dgx_latent_sink;

/* A listener to a model that is loaded: it hears of the bytes of weights on the device so far. */
typedef struct {
  void *context;
  void (*write)(void *context, uint64_t bytes);
} dgx_byte_sink;

/* A listener to the log: 1 is an error, 2 a warning, 3 information, 4 detail. Called from any thread. */
typedef void (*dgx_log)(int32_t level, dgx_text text);

typedef struct {
  uint64_t steps_done; /* UNet evaluations done */
  uint64_t steps;      /* UNet evaluations in all */
  uint64_t rows;       /* rows of the coming forward pass: 2 with guidance, 1 without */
} dgx_canvas_state;

typedef struct {
  uint64_t total_bytes;     /* all that the device has */
  uint64_t available_bytes; /* used by no process, or reclaimed at once */
  uint64_t used_bytes;      /* in tensors of this process */
  uint64_t peak_bytes;      /* the most that was in tensors since the last reset */
} dgx_device_memory;

typedef struct dgx_model dgx_model;
typedef struct dgx_canvas dgx_canvas;
typedef struct dgx_decoding dgx_decoding;
typedef struct dgx_device dgx_device;

typedef struct {
  /* {"owns_process":true} lets libtorch's allocator, threads, switches and limits be set for the whole process; with
   * false nothing global is touched, and memory is counted on the threads that draw. `log` may be null. */
  int32_t (*start)(dgx_text start, dgx_log log, dgx_sink answer);
  /* Compiles our kernels for a device; answers {"hopper","fp8"}. */
  int32_t (*kernels)(dgx_text device, dgx_sink answer);
  /* Writes the operations a second of a large product of matrices. */
  int32_t (*matrix_rate)(dgx_text device, dgx_text dtype, double *rate, dgx_sink answer);

  /* Opens `cpu` or `cuda:N`. */
  int32_t (*device_open)(dgx_text name, dgx_device **device, dgx_sink answer);
  /* Answers with the words under which measured costs are kept. */
  int32_t (*device_hardware)(const dgx_device *device, dgx_sink answer);
  int32_t (*device_memory)(const dgx_device *device, dgx_device_memory *memory, dgx_sink answer);
  int32_t (*device_reset_peak)(dgx_device *device, dgx_sink answer);
  int32_t (*device_empty_cache)(dgx_device *device, dgx_sink answer);
  /* Has allocations past `bytes` refused, in a process that is owned. */
  int32_t (*device_limit)(dgx_device *device, uint64_t bytes, dgx_sink answer);
  void (*device_close)(dgx_device *device);

  /* {"path","base","loras":[{"name","path","hash","weight","text_weight"}],"vae","controls":[{"name","path","hash"}],
   * "options":{"device","dtype","mode","vae_slicing","vae_tiling","prediction_type","zero_snr","lenient"},
   * "random_seed"}; of the options the last three may be absent. */
  int32_t (*model_load)(dgx_text load, dgx_byte_sink progress, dgx_model **model, dgx_sink answer);
  /* Begins a canvas for each of `count` resolved requests, a JSON array; answers [{"dropped_words"}]. If it fails,
   * there is none. */
  int32_t (*model_begin)(dgx_model *model, dgx_text requests, size_t count, dgx_canvas **canvases, dgx_sink answer);
  /* Advances each of `count` different canvases by one step. If it fails, none has moved. */
  int32_t (*model_step)(dgx_model *model, dgx_canvas *const *canvases, size_t count, dgx_sink answer);
  /* Begins to decode. The canvases may be freed before the images are there. */
  int32_t (*model_finish)(dgx_model *model, dgx_canvas *const *canvases, size_t count, dgx_decoding **decoding,
                          dgx_sink answer);
  /* Writes a coarse image of a canvas as it is now. */
  int32_t (*model_preview)(dgx_model *model, const dgx_canvas *canvas, dgx_image_sink image, dgx_sink answer);
  /* Writes the latents of a canvas as they are now, as diffusers returns them for output_type="latent". */
  int32_t (*model_latents)(dgx_model *model, const dgx_canvas *canvas, dgx_latent_sink latents, dgx_sink answer);
  /* The multiplications and additions of the UNet in the last step. */
  uint64_t (*model_flops)(const dgx_model *model);
  void (*model_free)(dgx_model *model);

  void (*canvas_state)(const dgx_canvas *canvas, dgx_canvas_state *state);
  void (*canvas_free)(dgx_canvas *canvas);

  /* Waits and writes the images in the order of the canvases. Frees the decoding, also where it fails. */
  int32_t (*decoding_wait)(dgx_decoding *decoding, dgx_image_sink images, dgx_sink answer);
  void (*decoding_free)(dgx_decoding *decoding);
} dgx_pixels_torch;

/* The object's one symbol. The functions live as long as the process. */
const dgx_pixels_torch *dgx_pixels_torch_4(void);

#ifdef __cplusplus
}
#endif

#endif
