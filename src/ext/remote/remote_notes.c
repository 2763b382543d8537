/* remote_notes: see the header. */
#include "ext/remote/remote_notes.h"

#include <stdlib.h>
#include <string.h>

void remote_notes_init(struct remote_notes *notes) {
    *notes = (struct remote_notes){0};
    (void)pthread_mutex_init(&notes->lock, NULL); /* cannot fail with default attributes */
}

struct remote_note *remote_note_new(struct remote_notes *notes, struct span name,
                                    struct span bytes) {
    struct remote_note *note = calloc(1, sizeof *note + bytes.len);
    if (!note)
        return NULL;
    note->name = name;
    note->len = bytes.len;
    note->readers = 1;
    if (bytes.len)
        memcpy(note->bytes, bytes.ptr, bytes.len);
    pthread_mutex_lock(&notes->lock);
    note->id = ++notes->last_id;
    pthread_mutex_unlock(&notes->lock);
    return note;
}

void remote_notes_add(struct remote_notes *notes, struct remote_note *note) {
    pthread_mutex_lock(&notes->lock);
    note->place = ++notes->last_place;
    if (notes->last)
        notes->last->next = note;
    else
        notes->first = note;
    notes->last = note;
    pthread_mutex_unlock(&notes->lock);
}

static void free_locked(struct remote_notes *notes, struct remote_note *note) {
    struct remote_note *before = NULL, **at = &notes->first;
    while (*at != note) {
        before = *at;
        at = &before->next;
    }
    *at = note->next;
    if (notes->last == note)
        notes->last = before;
    free(note);
}

static void release_locked(struct remote_notes *notes, struct remote_note *note) {
    if (--note->readers == 0 && atomic_load(&note->dropped))
        free_locked(notes, note);
}

void remote_notes_release(struct remote_notes *notes, struct remote_note *note) {
    pthread_mutex_lock(&notes->lock);
    release_locked(notes, note);
    pthread_mutex_unlock(&notes->lock);
}

struct remote_note *remote_notes_read(struct remote_notes *notes, struct remote_note *note) {
    pthread_mutex_lock(&notes->lock);
    struct remote_note *next = note ? note->next : notes->first;
    while (next && atomic_load(&next->dropped))
        next = next->next;
    if (next)
        next->readers++;
    if (note)
        release_locked(notes, note);
    pthread_mutex_unlock(&notes->lock);
    return next;
}

void remote_notes_forget(struct remote_note *note) {
    atomic_store(&note->dropped, true);
}

static struct remote_note *find_locked(struct remote_notes *notes, uint64_t id) {
    struct remote_note *note = notes->first;
    while (note && (note->id != id || atomic_load(&note->dropped)))
        note = note->next;
    return note;
}

bool remote_notes_has(struct remote_notes *notes, uint64_t id) {
    pthread_mutex_lock(&notes->lock);
    bool found = find_locked(notes, id) != NULL;
    pthread_mutex_unlock(&notes->lock);
    return found;
}

bool remote_notes_drop(struct remote_notes *notes, uint64_t id) {
    pthread_mutex_lock(&notes->lock);
    struct remote_note *note = find_locked(notes, id);
    bool found = note != NULL;
    if (note) {
        note->readers++;
        atomic_store(&note->dropped, true);
        release_locked(notes, note);
    }
    pthread_mutex_unlock(&notes->lock);
    return found;
}
