/* tests/detect_subject.h - a detector with a tiny network, and texts for it.
 *
 *   subject s;
 *   make_tiny(&s);
 *   open_subject(&s, &DEFAULTS);
 *   ...s.detector...
 *   close_subject(&s); */
#ifndef TESTS_DETECT_SUBJECT_H
#define TESTS_DETECT_SUBJECT_H

#include "detector/detect.h"
#include "tests/tiny_roberta.h"

enum { N_TEXTS = 70, TEXT_BYTES = 80 };

typedef struct {
    tiny_roberta tiny;
    char dir[TINY_PATH];
    tdm_backend backend;
    tdm_detector *detector;
} subject;

static const tdm_detect_options DEFAULTS = TDM_DETECT_DEFAULTS;

static inline void make_tiny(subject *s)
{
    *s = (subject){0};
    tiny_roberta_make(&s->tiny, 2, 2, 3);
}

static inline tdm_status try_open(subject *s, const tdm_detect_options *options, tdm_err *err)
{
    assert_int_equal(tdm_open_cpu(options->threads, &s->backend, err), TDM_OK);
    const tdm_status st = tdm_detector_open(s->dir, &s->backend, options, &s->detector, err);
    return st == TDM_OK ? tdm_detector_load(s->detector, err) : st;
}

static inline void open_subject(subject *s, const tdm_detect_options *options)
{
    tdm_err err = {0};
    tiny_roberta_write(&s->tiny, s->dir, "roberta.", TDM_F32);
    if (try_open(s, options, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tiny_roberta_remove(s->dir);
}

static inline void close_subject(subject *s)
{
    tdm_detector_close(s->detector);
    tdm_backend_close(&s->backend);
    tiny_roberta_free(&s->tiny);
}

/* Texts of 0 to 79 bytes, some of white space alone. */
static inline void make_texts(char bytes[N_TEXTS][TEXT_BYTES], tdm_text *texts)
{
    static const char LETTERS[] = "the an <s> \t\nxyz\xC3\xA9";
    uint64_t random = 21;
    for (size_t i = 0; i < N_TEXTS; i++) {
        const size_t n = tiny_random(&random) % TEXT_BYTES;
        for (size_t k = 0; k < n; k++)
            bytes[i][k] = i % 13 ? LETTERS[tiny_random(&random) % (sizeof LETTERS - 1)] : ' ';
        texts[i] = (tdm_text){.p = bytes[i], .len = n};
    }
}

static inline void assert_same(const tdm_detection *a, const tdm_detection *b)
{
    assert_int_equal(a->outcome, b->outcome);
    assert_memory_equal(&a->fake, &b->fake, sizeof a->fake);
    assert_memory_equal(&a->real, &b->real, sizeof a->real);
    assert_memory_equal(&a->logit_fake, &b->logit_fake, sizeof a->logit_fake);
    assert_memory_equal(&a->logit_real, &b->logit_real, sizeof a->logit_real);
    assert_int_equal(a->counts.all_tokens, b->counts.all_tokens);
    assert_int_equal(a->counts.used_tokens, b->counts.used_tokens);
}

#endif
