/* tools/args_backend.c - --device and --dtype to an open backend. */
#include "tools/args.h"

#include <stdlib.h>
#include <string.h>

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
                "--device %s: want auto, cpu, cuda or cuda:N", text);
    *device = atoi(text + 5);
done:
    return st;
}

tdm_status args_open_backend(const common_args *common, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int device = 0;
    const bool automatic = !strcmp(common->device, "auto");
    bool use_cpu = !strcmp(common->device, "cpu");
    *out = (tdm_backend){0};
    if (!use_cpu) {
        TDM_TRY(read_cuda_device(common->device, &device, err));
        st = tdm_open_cuda(device, out, err);
        use_cpu = automatic && st == TDM_ENODEV;
        if (!use_cpu)
            TDM_TRY(st);
    }
    if (use_cpu) {
        TDM_REQUIRE(!strcmp(DTYPE_CHOICES[common->dtype], "auto") ||
                        !strcmp(DTYPE_CHOICES[common->dtype], "f32"),
                    TDM_EARG, "--dtype %s: the CPU computes in f32 alone; weights of any dtype are read",
                    DTYPE_CHOICES[common->dtype]);
        TDM_TRY(tdm_open_cpu((int)common->threads, out, err));
    }
    if (!common->quiet)
        fprintf(stderr, "device: %s\n", out->ops->name);
done:
    return st;
}
