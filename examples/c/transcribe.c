/* Transcribe a WAV file, or samples from stdin, with a model file of this project. C99, onnxruntime's C API and zlib.
 *
 *     transcribe MODEL.onnx.gz FILE.wav       a recording, in the largest windows: the most accurate
 *     arecord -t raw -f S16_LE -r 16000 -c 1 | transcribe MODEL.onnx.gz -       words while they are spoken
 *
 * Audio is 16-bit mono at the model's rate, 16 kHz. The loop is that of docs/MODEL_FORMAT.md; memory is constant. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "onnxruntime_c_api.h"

/* LOOK_AHEAD_MS: right context of a window. HOP_MS: a stream recognises its newest audio so often. */
enum { FORMAT_VERSION = 2, LOOK_AHEAD_MS = 640, HOP_MS = 320 };
enum { MAX_BYTES = 64 << 20, MAX_VOCABULARY = 1 << 16, MAX_STATES = 256, MAX_RANK = 8 };

static const OrtApi *ort;
static const ONNXTensorElementDataType FLOAT32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
static const ONNXTensorElementDataType INT64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

/* Print a message and end the program. */
#define fail(...) (fprintf(stderr, "error: " __VA_ARGS__), fputc('\n', stderr), exit(1))

static void check(OrtStatus *status)
{
    if (status != NULL)
        fail("onnxruntime: %s", ort->GetErrorMessage(status));
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("no memory for %zu values", count);
    return memory;
}

static char *copy_of(const char *text)
{
    return strcpy(allocate(strlen(text) + 1, 1), text);
}

/* Read a model file into memory. zlib decompresses it, or reads a plain file as it is. */
static char *read_model(const char *path, size_t *size)
{
    char *data = allocate(MAX_BYTES, 1);
    gzFile file = gzopen(path, "rb");
    int count;
    if (file == NULL)
        fail("%s must be a model file, got none that can be read", path);
    for (*size = 0; (count = gzread(file, data + *size, 1 << 16)) > 0; *size += (size_t)count)
        if (*size > (size_t)MAX_BYTES - (1 << 17))
            fail("%s must have less than %d bytes when decompressed", path, MAX_BYTES);
    if (count < 0 || gzclose(file) != Z_OK)
        fail("%s must be a complete gzip file: it is damaged, copy it again", path);
    return data;
}

static const char *skip_spaces(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* The quotation mark at the end of the string that begins at `at`, or the end of the text. */
static const char *end_of_string(const char *at)
{
    for (at++; *at != '"' && *at != '\0'; at++)
        if (*at == '\\' && at[1] != '\0')
            at++;
    return at;
}

/* The value of a key of the object, or an error. */
static const char *value_of(const char *json, const char *key)
{
    size_t length = strlen(key);
    int depth = 0;
    for (const char *at = json; *at != '\0'; at++) {
        depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        if (*at == '"') {
            const char *name = at + 1;
            if (*(at = end_of_string(at)) == '\0')
                break;
            if (depth == 1 && *skip_spaces(at + 1) == ':' && (size_t)(at - name) == length &&
                memcmp(name, key, length) == 0)
                return skip_spaces(skip_spaces(at + 1) + 1);
        }
    }
    fail("the metadata of the model must have the entry \"%s\": the file is damaged", key);
}

static int64_t number_of(const char *json, const char *key, int64_t most)
{
    long long value = strtoll(value_of(json, key), NULL, 10);
    if (value < 1 || value > most)
        fail("\"%s\" of the model must be 1 to %lld: the file is damaged", key, (long long)most);
    return value;
}

/* The string between `at` and `end` in UTF-8, without escapes. Word pieces have no characters above U+FFFF. */
static char *decoded_string(const char *at, const char *end)
{
    char *text = allocate((size_t)(end - at) + 1, 1), *out = text;
    for (unsigned code; at < end; at++) {
        if (*at != '\\' || (*++at != 'u')) {
            *out++ = *at; /* no piece has a line feed or tab */
        } else if (end - at >= 5 && sscanf(at + 1, "%4x", &code) == 1) {
            if (code >= 0x800)
                *out++ = (char)(0xE0 | code >> 12);
            if (code >= 0x80)
                *out++ = (char)(code >= 0x800 ? 0x80 | (code >> 6 & 0x3F) : 0xC0 | code >> 6);
            *out++ = (char)(code < 0x80 ? code : 0x80 | (code & 0x3F));
            at += 4;
        }
    }
    return text;
}

static char **strings_of(const char *json, const char *key, size_t *count)
{
    const char *at = value_of(json, key);
    char **strings = allocate(MAX_VOCABULARY, sizeof *strings);
    for (*count = 0; *at == (*count ? ',' : '[') && *count < MAX_VOCABULARY; at = skip_spaces(at + 1)) {
        const char *first = skip_spaces(at + 1);
        if (*first != '"' || *(at = end_of_string(first)) == '\0')
            break;
        strings[(*count)++] = decoded_string(first + 1, at);
    }
    if (*at != ']' || *count == 0)
        fail("\"%s\" of the model must be 1 to %d strings: the file is damaged", key, MAX_VOCABULARY);
    return strings;
}

typedef struct {
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    int64_t sample_rate, samples_per_frame, max_chunk_frames, flush_samples;
    char **vocabulary;
    size_t vocabulary_size;
    int can_look_ahead, is_word_start, has_words; /* the last two: of the text printed so far */
    size_t n_states;
    char *inputs[MAX_STATES + 2];  /* names of the states, then "waveform" and perhaps "look_ahead" */
    char *outputs[MAX_STATES + 2]; /* the names of the next states, then "tokens" and "frames" */
    OrtValue *state[MAX_STATES];
} Model;

static char *metadata_of(const Model *model, const char *key)
{
    OrtModelMetadata *metadata;
    char *value, *copy;
    check(ort->SessionGetModelMetadata(model->session, &metadata));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, model->allocator, key, &value));
    if (value == NULL)
        fail("the model must have the metadata entry %s: it is not a model of this project", key);
    copy = copy_of(value);
    check(ort->AllocatorFree(model->allocator, value));
    ort->ReleaseModelMetadata(metadata);
    return copy;
}

/* The state at the start of a stream: zeros. */
static OrtValue *zero_state(const Model *model, size_t input)
{
    OrtTypeInfo *type;
    const OrtTensorTypeAndShapeInfo *shape;
    ONNXTensorElementDataType dtype;
    OrtValue *value;
    int64_t dims[MAX_RANK];
    size_t rank, bytes = 8; /* of a value, at most */
    void *data;
    check(ort->SessionGetInputTypeInfo(model->session, input, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &shape));
    check(ort->GetTensorElementType(shape, &dtype));
    check(ort->GetDimensionsCount(shape, &rank));
    if (rank > MAX_RANK || (dtype != FLOAT32 && dtype != INT64))
        fail("a state of the model must be float32 or int64 of at most %d dimensions", MAX_RANK);
    check(ort->GetDimensions(shape, dims, rank));
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 1 || (uint64_t)dims[i] > MAX_BYTES / bytes)
            fail("the dimensions of a state must be numbers, at most %d bytes together", MAX_BYTES);
        bytes *= (size_t)dims[i];
    }
    check(ort->CreateTensorAsOrtValue(model->allocator, dims, rank, dtype, &value));
    check(ort->GetTensorMutableData(value, &data));
    memset(data, 0, dtype == INT64 ? bytes : bytes / 2);
    ort->ReleaseTypeInfo(type);
    return value;
}

static void open_model(Model *model, const char *path)
{
    OrtSessionOptions *options;
    size_t size, n_inputs;
    char *data = read_model(path, &size), *format, *json;
    memset(model, 0, sizeof *model);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "transcribe", &model->env));
    check(ort->DisableTelemetryEvents(model->env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSessionFromArray(model->env, data, size, options, &model->session));
    check(ort->GetAllocatorWithDefaultOptions(&model->allocator));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &model->memory));
    ort->ReleaseSessionOptions(options);
    free(data);
    format = metadata_of(model, "lwasr.contract");
    if (strtol(format, NULL, 10) != FORMAT_VERSION)
        fail("the model format must be %d, got %s: use a model of this version", FORMAT_VERSION, format);
    json = metadata_of(model, "lwasr.model");
    if (strncmp(value_of(json, "streaming"), "true", 4) != 0)
        fail("the model must be a streaming model, got one with full context");
    model->sample_rate = number_of(json, "sample_rate", 192000);
    model->samples_per_frame = number_of(json, "samples_per_frame", 19200);
    model->max_chunk_frames = number_of(json, "max_chunk_frames", 10000);
    model->flush_samples = number_of(json, "flush_samples", 192000);
    model->vocabulary = strings_of(json, "vocabulary", &model->vocabulary_size);
    free(json);
    free(format);
    check(ort->SessionGetInputCount(model->session, &n_inputs));
    for (size_t i = 0; i < n_inputs; i++) {
        char *name;
        check(ort->SessionGetInputName(model->session, i, model->allocator, &name));
        if (strncmp(name, "state_", 6) == 0) {
            size_t n = model->n_states++;
            if (n == MAX_STATES)
                fail("the model must have at most %d states", MAX_STATES);
            model->inputs[n] = copy_of(name);
            model->outputs[n] = copy_of(name + 1); /* next_NAME for state_NAME */
            memcpy(model->outputs[n], "next", 4);
            model->state[n] = zero_state(model, i);
        } else if (strcmp(name, "look_ahead") == 0) {
            model->can_look_ahead = 1;
        }
        check(ort->AllocatorFree(model->allocator, name));
    }
    model->inputs[model->n_states] = "waveform";
    model->inputs[model->n_states + 1] = "look_ahead";
    model->outputs[model->n_states] = "tokens";
    model->outputs[model->n_states + 1] = "frames";
}

static const int64_t *integers_of(OrtValue *value, size_t *count)
{
    OrtTensorTypeAndShapeInfo *shape;
    ONNXTensorElementDataType dtype;
    void *data;
    check(ort->GetTensorTypeAndShape(value, &shape));
    check(ort->GetTensorElementType(shape, &dtype));
    if (dtype != INT64)
        fail("tokens and frames must be int64: the model is damaged");
    check(ort->GetTensorShapeElementCount(shape, count));
    check(ort->GetTensorMutableData(value, &data));
    ort->ReleaseTensorTypeAndShapeInfo(shape);
    return data;
}

/* Print the piece of a token; U+2581 begins a word. */
static void print_piece(Model *model, const char *piece)
{
    if (strncmp(piece, "\xE2\x96\x81", 3) == 0) {
        model->is_word_start = 1;
        piece += 3;
    }
    if (*piece == '\0')
        return;
    if (model->is_word_start && model->has_words)
        putchar(' ');
    fputs(strcmp(piece, "<unk>") == 0 ? "\xE2\x81\x87" : piece, stdout);
    model->is_word_start = 0;
    model->has_words = 1;
}

/* Run a window, print its committed tokens, and replace the state. */
static void run_window(Model *model, float *window, int64_t frames, int64_t look_ahead)
{
    const int64_t length = frames * model->samples_per_frame, one = 1;
    size_t n = model->n_states, n_inputs = n + 1 + (size_t)model->can_look_ahead, n_tokens, n_frames;
    const OrtValue *inputs[MAX_STATES + 2];
    OrtValue *outputs[MAX_STATES + 2] = {NULL}, *waveform, *context;
    const int64_t *tokens, *starts;
    check(ort->CreateTensorWithDataAsOrtValue(model->memory, window, (size_t)length * sizeof *window, &length, 1,
                                              FLOAT32, &waveform));
    check(ort->CreateTensorWithDataAsOrtValue(model->memory, &look_ahead, sizeof look_ahead, &one, 1, INT64,
                                              &context));
    memcpy(inputs, model->state, n * sizeof *inputs);
    inputs[n] = waveform;
    inputs[n + 1] = context;
    check(ort->Run(model->session, NULL, (const char *const *)model->inputs, inputs, n_inputs,
                   (const char *const *)model->outputs, n + 2, outputs));
    tokens = integers_of(outputs[n], &n_tokens);
    starts = integers_of(outputs[n + 1], &n_frames);
    for (size_t i = 0; i < n_tokens && i < n_frames && starts[i] < frames - look_ahead; i++) {
        if (tokens[i] < 0 || (uint64_t)tokens[i] >= model->vocabulary_size)
            fail("tokens must be less than %zu: the model is damaged", model->vocabulary_size);
        print_piece(model, model->vocabulary[tokens[i]]);
    }
    fflush(stdout);
    for (size_t i = 0; i < n + 2; i++)
        ort->ReleaseValue(i < n ? model->state[i] : outputs[i]);
    memcpy(model->state, outputs, n * sizeof *outputs);
    ort->ReleaseValue(waveform);
    ort->ReleaseValue(context);
}

typedef struct {
    FILE *file;
    uint64_t left;   /* bytes of audio that may follow */
    int64_t count;   /* samples so far */
    int64_t padding; /* zeros after the last sample; -1: not there yet */
} Audio;

static uint32_t little_endian(const unsigned char *bytes, int count)
{
    return count ? bytes[0] | little_endian(bytes + 1, count - 1) << 8 : 0;
}

/* Read a WAV file up to its first sample. */
static void open_wav(Audio *audio, const char *path, int64_t sample_rate)
{
    unsigned char head[12], format[16] = {0};
    if ((audio->file = fopen(path, "rb")) == NULL)
        fail("%s must be a WAV file, got none that can be read", path);
    if (fread(head, 1, 12, audio->file) != 12 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0)
        fail("%s must be a WAV file, got another format: ffmpeg -i FILE -ar 16000 -ac 1 FILE.wav", path);
    while (fread(head, 1, 8, audio->file) == 8) {
        uint32_t size = little_endian(head + 4, 4), used = 0;
        if (memcmp(head, "data", 4) == 0) {
            uint32_t channels = little_endian(format + 2, 2), bits = little_endian(format + 14, 2);
            uint32_t rate = little_endian(format + 4, 4);
            if (channels != 1 || bits != 16 || rate != (uint32_t)sample_rate)
                fail("%s must be 16-bit mono at %d Hz, got %u bits, %u channels, %u Hz: convert it", path,
                     (int)sample_rate, bits, channels, rate);
            if (size != 0 && size != UINT32_MAX) /* otherwise the recorder never wrote it */
                audio->left = size;
            return;
        }
        if (memcmp(head, "fmt ", 4) == 0 && size >= 16)
            used = (uint32_t)fread(format, 1, 16, audio->file);
        for (uint64_t rest = (uint64_t)size + size % 2 - used; rest > 0 && fgetc(audio->file) != EOF; rest--)
            ;
    }
    fail("%s must have a chunk \"data\", got none: it is damaged", path);
}

/* Add samples until the window is full or the audio and the zeros after it end; return their number. */
static int64_t fill(Audio *audio, const Model *model, float *window, int64_t count, int64_t capacity)
{
    unsigned char bytes[2];
    for (; count < capacity && audio->padding < 0; audio->left -= 2) {
        if (audio->left < 2 || fread(bytes, 1, 2, audio->file) != 2) {
            int64_t size = model->samples_per_frame, flush = model->flush_samples;
            audio->padding = flush + (size - (audio->count + flush) % size) % size;
            break;
        }
        window[count++] = (float)((int)little_endian(bytes, 2) - (bytes[1] & 0x80 ? 65536 : 0)) / 32768;
        audio->count++;
    }
    for (; count < capacity && audio->padding > 0; audio->padding--)
        window[count++] = 0;
    return count;
}

int main(int argc, char **argv)
{
    Model model;
    Audio audio = {stdin, UINT64_MAX, 0, -1};
    int64_t size, frames, look_ahead, capacity, count = 0;
    float *window;
    if (argc != 3)
        fail("give a model and a WAV file, or - for samples from stdin: transcribe MODEL.onnx.gz FILE.wav");
    if ((ort = OrtGetApiBase()->GetApi(ORT_API_VERSION)) == NULL)
        fail("onnxruntime must be 1.%d or newer, got %s", ORT_API_VERSION, OrtGetApiBase()->GetVersionString());
    open_model(&model, argv[1]);
    size = model.samples_per_frame;
    frames = model.max_chunk_frames;
    look_ahead = model.can_look_ahead ? LOOK_AHEAD_MS * model.sample_rate / 1000 / size : 0;
    if (strcmp(argv[2], "-") != 0)
        open_wav(&audio, argv[2], model.sample_rate);
    else /* words at once, with a few more errors */
        frames = look_ahead + HOP_MS * model.sample_rate / 1000 / size;
    if (frames <= look_ahead || frames > model.max_chunk_frames)
        fail("the model must take windows of %d ms", LOOK_AHEAD_MS + HOP_MS);
    capacity = frames * size;
    window = allocate((size_t)capacity, sizeof *window);
    while ((count = fill(&audio, &model, window, count, capacity)) == capacity) {
        run_window(&model, window, frames, look_ahead);
        count = look_ahead * size; /* the next window begins with them */
        memmove(window, window + capacity - count, (size_t)count * sizeof *window);
    }
    if (count > 0)
        run_window(&model, window, count / size, 0);
    putchar('\n');
    return 0;
}
