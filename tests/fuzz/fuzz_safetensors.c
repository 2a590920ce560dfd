/* The header of a safetensors file: two bytes for the length of the data, then the JSON. What is
 * accepted must tile the data exactly. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/safetensors.h"

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_tensor(const tdm_tensor *t)
{
    size_t elements = 1;
    require(t->rank >= 0 && t->rank <= TDM_MAX_RANK);
    for (int i = 0; i < t->rank; i++)
        elements *= (size_t)t->shape[i]; /* wraps only with a zero behind it */
    require(t->bytes == 0 ? elements == 0 : t->bytes % elements == 0);
    require(!t->is_float || t->bytes == elements * tdm_dtype_size(t->dtype));
    for (const char *p = t->name; *p; p++)
        require((unsigned char)*p >= 0x20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tdm_safetensors st;
    tdm_err err = {0};
    if (size < 2)
        return 0;
    const uint64_t data_bytes = (uint64_t)data[0] | (uint64_t)data[1] << 8;
    const tdm_status status =
        tdm_safetensors_parse((const char *)data + 2, size - 2, data_bytes, 3, &st, &err);
    require(status == TDM_OK || (status == TDM_EFORMAT && !st.tensors && err.msg[0]));
    uint64_t at = 8 + size - 2;
    for (size_t i = 0; i < st.n; i++) {
        check_tensor(&st.tensors[i]);
        require(st.tensors[i].offset == at);
        at += st.tensors[i].bytes;
    }
    require(status != TDM_OK || (at == st.size && st.size == 8 + size - 2 + data_bytes));
    tdm_safetensors_close(&st);
    return 0;
}
