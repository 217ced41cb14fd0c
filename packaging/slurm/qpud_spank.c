/* qpud_spank.c: --qpu, --qpu-hint and --qpu-share for sbatch, srun, salloc and #SBATCH.
 *
 * Checks the form of the values where they are typed, and hands them on as the job's SPANK_QPUD_QPU, _HINT, _SHARE:
 * job_submit.lua reads them in slurmctld, prolog.sh on the node. They are the user's words, so they entitle to nothing;
 * what counts are the licences of the running job, which slurmctld gave.
 * `make spank` compiles it; Slurm refuses a plugin that was compiled for another major version. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/spank.h>

SPANK_PLUGIN(qpud, 1)

#define MOST 256       /* characters of a value, with its end */
#define SHARE_UNITS 10 /* of a whole QPU */

enum { QPU, HINT, SHARE, OPTIONS };

static const char *const variables[OPTIONS] = { "QPUD_QPU", "QPUD_HINT", "QPUD_SHARE" };
static char values[OPTIONS][MOST];

/* NAME[,NAME]: letters, digits, "_", "-" and "."; no name is empty. */
static int is_list_of_names(const char *text)
{
    char before = ',';
    for (; *text; before = *text++)
        if (*text == ',' ? before == ',' : !isalnum((unsigned char)*text) && !strchr("_-.", *text))
            return 0;
    return before != ',';
}

static int is_hint(const char *text)
{
    return !strcmp(text, "qc-heavy") || !strcmp(text, "cc-heavy") || !strcmp(text, "qc-balanced");
}

static int is_share(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits < 4 && !text[digits] && atoi(text) >= 1 && atoi(text) <= SHARE_UNITS;
}

static const struct {
    const char *option;
    int (*is_good)(const char *);
    const char *form;
} rules[OPTIONS] = {
    { "qpu", is_list_of_names, "the name of a QPU, or several with commas" },
    { "qpu-hint", is_hint, "qc-heavy, cc-heavy or qc-balanced" },
    { "qpu-share", is_share, "a number of units from 1 to 10, which are the whole QPU" },
};

/* Keeps a value. In sbatch and the like, ESPANK_BAD_ARG refuses the submission. */
static int take(int which, const char *text, int is_remote)
{
    (void)is_remote;
    if (!text || strlen(text) >= MOST || !rules[which].is_good(text)) {
        slurm_error("qpud: --%s=%.80s is not %s", rules[which].option, text ? text : "", rules[which].form);
        return ESPANK_BAD_ARG;
    }
    strcpy(values[which], text);
    return ESPANK_SUCCESS;
}

static struct spank_option options[OPTIONS] = {
    { "qpu", "NAME[,NAME]", "QPU or emulator to use, through qpud", 1, QPU, take },
    { "qpu-hint", "HINT", "what the job is mostly made of: qc-heavy, cc-heavy, qc-balanced", 1, HINT, take },
    { "qpu-share", "UNITS", "share of the QPU, 10 units are all of it", 1, SHARE, take },
};

/* The exported table `spank_options` would do for srun only. */
int slurm_spank_init(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    spank_context_t context = spank_context();
    if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR && context != S_CTX_REMOTE)
        return ESPANK_SUCCESS; /* slurmd and its hooks take no options */
    for (int which = 0; which < OPTIONS; which++)
        if (spank_option_register(spank, &options[which]) != ESPANK_SUCCESS)
            slurm_error("qpud: --%s could not be registered", rules[which].option);
    return ESPANK_SUCCESS;
}

int slurm_spank_init_post_opt(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    spank_context_t context = spank_context();
    if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR)
        return ESPANK_SUCCESS; /* on the node the job has them already */
    for (int which = 0; which < OPTIONS; which++)
        if (*values[which])
            spank_job_control_setenv(spank, variables[which], values[which], 1);
    return ESPANK_SUCCESS;
}
