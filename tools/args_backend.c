/* tools/args_backend.c - --device, --dtype and --kv-dtype to an open backend. */
#include "tools/args.h"

#include <stdlib.h>
#include <string.h>

#include "host/backend_null.h"

/* "cuda" is device 0; "cuda:N" device N. */
static tdm_status read_cuda_device(const char *text, int *device, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *device = 0;
    if (!strcmp(text, "auto") || !strcmp(text, "cuda"))
        return TDM_OK;
    const bool named = !strncmp(text, "cuda:", 5);
    const size_t digits = named ? strspn(text + 5, "0123456789") : 0;
    TDM_REQUIRE(named && digits > 0 && digits <= 4 && !text[5 + digits], TDM_EARG,
                "--device %s: want auto, cpu, cuda, cuda:N or null", text);
    *device = atoi(text + 5);
done:
    return st;
}

/* The dtype of an index into DTYPE_CHOICES; `automatic` for auto. */
static tdm_dtype read_dtype(int choice, tdm_dtype automatic)
{
    static const tdm_dtype TYPES[] = {TDM_F16, TDM_BF16, TDM_F32};
    return choice ? TYPES[choice - 1] : automatic;
}

static tdm_cuda_options cuda_options(const common_args *common)
{
    tdm_cuda_options options = {.dtype = read_dtype(common->dtype, TDM_F16)};
    options.kv_dtype = read_dtype(common->kv_dtype, options.dtype);
    return options;
}

static tdm_status open_cuda(const common_args *common, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_cuda_options options = cuda_options(common);
    TDM_TRY(read_cuda_device(common->device, &options.device, err));
    TDM_TRY(tdm_open_cuda(&options, out, err));
done:
    return st;
}

/* Of the devices that have f32 alone: the CPU, or none at all.
 *   why_not  why CUDA was not taken where it could have been; empty: it could not */
static tdm_status check_f32(const common_args *common, const char *why_not, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool is_null = !strcmp(common->device, "null");
    const struct {
        const char *name;
        int choice;
    } types[] = {{"dtype", common->dtype}, {"kv-dtype", common->kv_dtype}};
    for (size_t i = 0; i < COUNT(types); i++)
        TDM_REQUIRE(read_dtype(types[i].choice, TDM_F32) == TDM_F32, TDM_EARG,
                    "--%s %s: the %s computes in f32 alone; weights of any dtype are read%s%s",
                    types[i].name, DTYPE_CHOICES[types[i].choice], is_null ? "null device" : "CPU",
                    *why_not ? "; " : "", why_not);
done:
    return st;
}

static tdm_status open_f32(const common_args *common, const char *why_not, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_f32(common, why_not, err));
    TDM_TRY(!strcmp(common->device, "null") ? tdm_open_null(out, err) : tdm_open_cpu((int)common->threads, out, err));
done:
    return st;
}

void args_say_device(const common_args *common, const tdm_backend *be, const char *why_not)
{
    if (!common->quiet)
        fprintf(stderr, "device: %s%s%s%s\n", be->device ? be->device : be->ops->name, *why_not ? " (" : "", why_not,
                *why_not ? ")" : "");
}

tdm_status args_open_backend(const common_args *common, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err no_cuda = {0};
    bool use_f32 = !strcmp(common->device, "cpu") || !strcmp(common->device, "null");
    *out = (tdm_backend){0};
    if (!use_f32) {
        st = open_cuda(common, out, &no_cuda);
        use_f32 = st == TDM_ENODEV && !strcmp(common->device, "auto");
    }
    if (use_f32)
        TDM_TRY(open_f32(common, no_cuda.msg, out, err));
    else
        TDM_REQUIRE(st == TDM_OK, st, "%s", no_cuda.msg);
    args_say_device(common, out, no_cuda.msg);
done:
    return st;
}

tdm_status args_open_ranks(const common_args *common, const int *devices, int32_t n, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_cuda_options options = cuda_options(common);
    *out = (tdm_backend){0};
    if (devices) {
        TDM_TRY(tdm_open_cuda_ranks(devices, n, &options, out, err));
    } else {
        TDM_TRY(check_f32(common, "", err));
        TDM_TRY(tdm_open_cpu_ranks(n, (int)common->threads, out, err));
    }
    args_say_device(common, out, "");
done:
    return st;
}
