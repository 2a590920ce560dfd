/* config.json from any bytes. What is accepted must lie within the limits that the rest relies on.
 */
#include <stdint.h>
#include <stdlib.h>

#include "host/config.h"

static void require(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tdm_config c;
    tdm_err err = {0};
    const tdm_status st = tdm_config_parse((const char *)data, size, &c, &err);
    require(st == TDM_OK || (st == TDM_EFORMAT && err.msg[0]));
    for (const char *p = err.msg; *p; p++)
        require((unsigned char)*p >= 0x20);
    if (st != TDM_OK)
        return 0;
    require(c.n_layer >= 1 && c.n_layer <= 1024 && c.n_head >= 1 && c.n_embd == 64 * c.n_head);
    require(c.n_embd <= 65536 && c.n_inner >= 1 && c.n_inner <= 262144);
    require(c.n_vocab >= 1 && c.n_vocab <= 1 << 24 && c.n_position <= 1 << 20);
    require(c.n_context >= 1 && c.n_context <= c.n_position);
    require(c.eos >= 0 && c.eos < c.n_vocab && c.bos >= 0 && c.bos < c.n_vocab);
    require(c.pad < c.n_vocab && c.unk < c.n_vocab);
    require(c.norm_eps > 0 && c.norm_eps < 1);
    return 0;
}
