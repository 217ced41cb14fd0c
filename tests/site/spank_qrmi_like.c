/* spank_qrmi_like.c: what QRMI's own SPANK plugin asks of a daemon, in the same places, by QRMI's own library.
 *
 * plugstack.conf: required spank_qrmi_like.so CONFIG STUBS CORE. CONFIG is qrmi_config.json; CORE is the library of the
 * released qrmi wheel, which has QRMI's C API beside the Python module; STUBS has the names of Python that CORE wants
 * and the C API never uses. Acts in the slurmstepd of the batch script, as root: accessible and acquire before the
 * script, release after it (facts/CONTRACTS §7). */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

SPANK_PLUGIN(spank_qrmi, 1) /* so that its option comes to the hooks as the real one's does */

typedef struct { char *key, *value; } pair_t;
typedef struct { char *name; int type; bool is_dynamic; struct { pair_t *pairs; size_t length; } environment; } resource_t;

static void *core;
static char *qpu, *token;
static int type, has_failed;

#define CALL(result, name, ...) ((result (*)())dlsym(core, name))(__VA_ARGS__)

static int take(int which, const char *text, int is_remote)
{
    (void)which, (void)is_remote;
    qpu = strdup(text);
    return ESPANK_SUCCESS;
}

static struct spank_option option = { "qpu", "names", "QPU resource to use.", 1, 0, take };

static void both(spank_t spank, const char *name, const char *value)
{
    setenv(name, value, 1);
    spank_setenv(spank, name, value, 1);
}

static void of_resource(spank_t spank, const char *name, const char *value)
{
    char full[256];
    snprintf(full, sizeof full, "%s_%s", qpu, name);
    both(spank, full, value);
}

static int fail(const char *what)
{
    slurm_error("qrmi_like: %s: %s", what, core ? CALL(char *, "qrmi_get_last_error") : dlerror());
    has_failed = 1;
    return ESPANK_SUCCESS; /* an error here would drain the node */
}

static int acquire(spank_t spank, const char *config)
{
    void *loaded = CALL(void *, "qrmi_config_load", config);
    resource_t *found = loaded ? CALL(resource_t *, "qrmi_config_resource_def_get", loaded, qpu) : NULL;
    if (!found)
        return fail("no such resource");
    for (size_t i = 0; i < found->environment.length; i++)
        of_resource(spank, found->environment.pairs[i].key, found->environment.pairs[i].value);
    void *resource = CALL(void *, "qrmi_resource_new", qpu, type = found->type);
    bool is_accessible = false;
    if (!resource || CALL(int, "qrmi_resource_is_accessible", resource, &is_accessible) || !is_accessible)
        return fail("not accessible");
    if (CALL(int, "qrmi_resource_acquire", resource, &token) || !token)
        return fail("resource acquisition failed");
    of_resource(spank, "QRMI_JOB_ACQUISITION_TOKEN", token);
    for (const char *const *prefix = (const char *const[]){ "QRMI", "SLURM", NULL }; *prefix; prefix++) {
        char name[64];
        snprintf(name, sizeof name, "%s_JOB_QPU_RESOURCES", *prefix);
        spank_setenv(spank, name, qpu, 1);
        snprintf(name, sizeof name, "%s_JOB_QPU_TYPES", *prefix);
        spank_setenv(spank, name, CALL(char *, "qrmi_config_resource_type_to_str", type), 1);
    }
    return ESPANK_SUCCESS;
}

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    spank_context_t context = spank_context();
    if (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR || context == S_CTX_REMOTE)
        return spank_option_register(spank, &option);
    return ESPANK_SUCCESS;
}

int slurm_spank_init_post_opt(spank_t spank, int count, char **arguments)
{
    uint32_t step = 0, job = 0;
    uid_t user = 0;
    char text[16];
    if (!spank_remote(spank) || !qpu || count != 3)
        return ESPANK_SUCCESS;
    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS || step != SLURM_BATCH_SCRIPT)
        return ESPANK_SUCCESS;
    if (!dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL) || !(core = dlopen(arguments[2], RTLD_NOW)))
        return fail("no library");
    spank_get_item(spank, S_JOB_UID, &user);
    spank_get_item(spank, S_JOB_ID, &job);
    snprintf(text, sizeof text, "%u", user);
    both(spank, "QRMI_JOB_UID", text);
    snprintf(text, sizeof text, "%u", job);
    both(spank, "QRMI_JOB_ID", text);
    return acquire(spank, arguments[0]);
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
    (void)spank, (void)count, (void)arguments;
    return has_failed ? SLURM_ERROR : SLURM_SUCCESS;
}

int slurm_spank_exit(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    if (spank_remote(spank) && token && CALL(int, "qrmi_resource_release", CALL(void *, "qrmi_resource_new", qpu, type), token))
        fail("release failed");
    return SLURM_SUCCESS;
}
