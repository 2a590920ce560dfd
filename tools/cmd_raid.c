/* tools/cmd_raid.c - tandem raid STEP [options]: find the step and run it. */
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/menu.h"
#include "tools/raid.h"

static const menu_entry STEPS[] = {
    {"records", "RAID's CSV to records that detect, score and eval read", raid_records},
    {"predictions", "scored records to predictions.json", raid_predictions},
    {"check", "whether predictions.json and metadata.json would be accepted", raid_check},
    {"eval", "RAID's results on labelled data: TPR at fixed FPR, AUROC, by group", raid_eval},
};

static const menu MENU = {
    .program = "tandem raid",
    .kind = "step",
    .usage = "Usage: tandem raid STEP [options]\n\n"
             "From the data of the RAID benchmark to a submission, and its results before it is sent.",
    .list = "Steps",
    .notes = "\"tandem raid STEP --help\" describes one step.\n\n"
             "Example:\n"
             "  tandem raid records test.csv --out test.jsonl\n"
             "  tandem detect --model roberta-base-openai-detector test.jsonl --out judged.jsonl\n"
             "  tandem raid predictions judged.jsonl --field fake --out predictions.json\n"
             "  tandem raid check predictions.json --data test.csv --metadata metadata.json",
    .entries = STEPS,
    .n = COUNT(STEPS),
};

int cmd_raid(int argc, char **argv)
{
    return menu_run(&MENU, argc, argv);
}
