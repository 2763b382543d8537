/* cfi: one instruction's row, by running the instructions of its CIE and FDE.
 *
 *     _dl_find_object(pc) --> .eh_frame_hdr: { start of function, FDE } sorted
 *                                               |
 *     .eh_frame:   CIE: encodings, first rules <-- FDE: function, DW_CFA_advance_loc, DW_CFA_offset, ...
 *
 * _dl_find_object is glibc's for exactly this: it takes no lock, so it may be called while another thread is
 * in dlopen, by a thread that holds whatever, and in the child of a fork.
 *
 * The tables are the compiler's and mapped as long as the code is; they are believed. What is not known
 * ends the walk.
 * Rejected  libunwind: it locks (a child of fork could wait for ever), keeps 400 KiB per thread that ever
 *        unwound, and its destructor for that runs after those of all others. libgcc's unwinder: it
 *        allocates when first used, and cannot be asked for a row, so each walk interprets anew. */
#include "heap/cfi.h"

#include <dlfcn.h>
#include <string.h>

/* ---- Reading ---- */

/* DW_EH_PE: how a pointer is written */
enum {
    PE_ABSOLUTE = 0x00,
    PE_ULEB = 0x01,
    PE_UDATA2 = 0x02,
    PE_UDATA4 = 0x03,
    PE_UDATA8 = 0x04,
    PE_SLEB = 0x09,
    PE_SDATA2 = 0x0a,
    PE_SDATA4 = 0x0b,
    PE_SDATA8 = 0x0c,
    PE_FORMAT = 0x0f,
    PE_PC_RELATIVE = 0x10,
    PE_DATA_RELATIVE = 0x30,
    PE_BASE = 0x70,
    PE_OMIT = 0xff,
};

#define READ(type, at)                                                                             \
    ({                                                                                             \
        type read_value;                                                                           \
        memcpy(&read_value, *(at), sizeof read_value);                                             \
        *(at) += sizeof read_value;                                                                \
        read_value;                                                                                \
    })

uint64_t cfi_uleb(const uint8_t **at) {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *(*at)++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    return value;
}

int64_t cfi_sleb(const uint8_t **at) {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *(*at)++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (shift < 64 && byte & 0x40)
        value |= UINT64_MAX << shift;
    return (int64_t)value;
}

static bool read_pointer(const uint8_t **at, uint8_t encoding, uintptr_t *out) {
    uintptr_t base = (encoding & PE_BASE) == PE_PC_RELATIVE ? (uintptr_t)*at : 0;
    switch (encoding & PE_FORMAT) {
    case PE_ABSOLUTE:
    case PE_UDATA8:
    case PE_SDATA8:
        *out = base + READ(uint64_t, at);
        return true;
    case PE_ULEB:
        *out = base + cfi_uleb(at);
        return true;
    case PE_SLEB:
        *out = base + (uintptr_t)cfi_sleb(at);
        return true;
    case PE_UDATA2:
        *out = base + READ(uint16_t, at);
        return true;
    case PE_SDATA2:
        *out = base + (uintptr_t)(intptr_t)READ(int16_t, at);
        return true;
    case PE_UDATA4:
        *out = base + READ(uint32_t, at);
        return true;
    case PE_SDATA4:
        *out = base + (uintptr_t)(intptr_t)READ(int32_t, at);
        return true;
    default:
        return false;
    }
}

/* ---- Finding ---- */

struct fde {
    const uint8_t *instructions, *end;
    uintptr_t start; /* of the function */
};

struct cie {
    const uint8_t *instructions, *end;
    uint64_t code_align;
    int64_t data_align;
    unsigned return_register;
    uint8_t encoding; /* of addresses in FDEs */
    bool is_signal, has_sizes;
};

/* What a 32-bit length says is behind it; NULL: the end, or one that needs 64 bits. */
static const uint8_t *read_length(const uint8_t **at) {
    uint32_t length = READ(uint32_t, at);
    return length == 0 || length == UINT32_MAX ? NULL : *at + length;
}

static bool read_augmentation(const uint8_t **at, const char *letters, struct cie *cie) {
    if (*letters == '\0')
        return true;
    if (*letters != 'z')
        return false;
    cie->has_sizes = true;
    uint64_t size = cfi_uleb(at);
    const uint8_t *end = *at + size;
    for (letters++; *letters; letters++) {
        uintptr_t unused;
        switch (*letters) {
        case 'R':
            cie->encoding = *(*at)++;
            break;
        case 'P': { /* the personality routine: of who throws */
            uint8_t encoding = *(*at)++;
            if (!read_pointer(at, encoding, &unused))
                return false;
            break;
        }
        case 'L':
            (*at)++;
            break;
        case 'S':
            cie->is_signal = true;
            break;
        case 'B': /* aarch64: return addresses are signed with the other key */
            break;
        default:
            return false;
        }
    }
    *at = end;
    return true;
}

static bool read_cie(const uint8_t *at, struct cie *cie) {
    *cie = (struct cie){.encoding = PE_ABSOLUTE};
    cie->end = read_length(&at);
    if (!cie->end || READ(uint32_t, &at) != 0)
        return false;
    uint8_t version = *at++;
    if (version != 1 && version != 3)
        return false;
    const char *letters = (const char *)at;
    at += strlen(letters) + 1;
    cie->code_align = cfi_uleb(&at);
    cie->data_align = cfi_sleb(&at);
    cie->return_register = version == 1 ? *at++ : (unsigned)cfi_uleb(&at);
    bool is_known = read_augmentation(&at, letters, cie);
    cie->instructions = at;
    return is_known && cie->return_register < CFI_REGISTERS;
}

static bool read_fde(const uint8_t *at, uintptr_t pc, struct fde *fde, struct cie *cie) {
    fde->end = read_length(&at);
    if (!fde->end)
        return false;
    const uint8_t *cie_from = at;
    uint32_t cie_distance = READ(uint32_t, &at);
    uintptr_t size;
    if (!read_cie(cie_from - cie_distance, cie) || !read_pointer(&at, cie->encoding, &fde->start) ||
        !read_pointer(&at, cie->encoding & PE_FORMAT, &size))
        return false;
    if (pc < fde->start || pc - fde->start >= size)
        return false;
    if (cie->has_sizes) {
        uint64_t augmentation = cfi_uleb(&at);
        at += augmentation;
    }
    fde->instructions = at;
    return true;
}

/* .eh_frame_hdr: version, three encodings, .eh_frame, count, then pairs relative to its own start. */
static const uint8_t *look_up(const uint8_t *header, uintptr_t pc) {
    struct {
        int32_t start, fde;
    } entry;
    const uint8_t *at = header + 4;
    uintptr_t frames, count;
    if (header[0] != 1 || header[3] != (PE_DATA_RELATIVE | PE_SDATA4) ||
        !read_pointer(&at, header[1], &frames) || !read_pointer(&at, header[2], &count))
        return NULL;
    size_t low = 0, high = count; /* the last that starts at or before pc is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        memcpy(&entry, at + middle * sizeof entry, sizeof entry);
        if ((uintptr_t)header + (uintptr_t)(intptr_t)entry.start <= pc)
            low = middle;
        else
            high = middle;
    }
    if (count == 0)
        return NULL;
    memcpy(&entry, at + low * sizeof entry, sizeof entry);
    return header + entry.fde;
}

/* ---- Running ---- */

/* DW_CFA; the first three have an operand in their low 6 bits. */
enum {
    CFA_ADVANCE = 0x40,
    CFA_SAVED = 0x80,
    CFA_RESTORE = 0xc0,
    CFA_HIGH = 0xc0,
    CFA_NOP = 0x00,
    CFA_SET_LOCATION = 0x01,
    CFA_ADVANCE_1 = 0x02,
    CFA_ADVANCE_2 = 0x03,
    CFA_ADVANCE_4 = 0x04,
    CFA_SAVED_EXTENDED = 0x05,
    CFA_RESTORE_EXTENDED = 0x06,
    CFA_UNDEFINED = 0x07,
    CFA_SAME = 0x08,
    CFA_REGISTER = 0x09,
    CFA_REMEMBER = 0x0a,
    CFA_RECALL = 0x0b,
    CFA_DEFINE = 0x0c,
    CFA_DEFINE_REGISTER = 0x0d,
    CFA_DEFINE_OFFSET = 0x0e,
    CFA_DEFINE_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10,
    CFA_SAVED_SIGNED = 0x11,
    CFA_DEFINE_SIGNED = 0x12,
    CFA_DEFINE_OFFSET_SIGNED = 0x13,
    CFA_VALUE_OFFSET = 0x14,
    CFA_VALUE_OFFSET_SIGNED = 0x15,
    CFA_VALUE_EXPRESSION = 0x16,
    CFA_SIGN_STATE = 0x2d, /* aarch64 */
    CFA_ARGUMENTS_SIZE = 0x2e,
};

enum { REMEMBERED_MAX = 2 }; /* compilers nest one deep */

struct run {
    const struct cie *cie;
    struct cfi_row *row;
    struct cfi_row first; /* the CIE's: what RESTORE restores */
    struct cfi_row remembered[REMEMBERED_MAX];
    unsigned remembered_count;
    uintptr_t location, pc;
};

static void set(struct run *run, uint64_t reg, enum cfi_where where, int64_t offset) {
    if (reg < CFI_REGISTERS) /* vector registers are of no use here */
        run->row->registers[reg] = (struct cfi_rule){.where = where, .offset = offset};
}

static void set_expression(struct run *run, uint64_t reg, enum cfi_where where,
                           const uint8_t **at) {
    if (reg < CFI_REGISTERS)
        run->row->registers[reg] = (struct cfi_rule){.where = where, .expression = *at};
    uint64_t size = cfi_uleb(at);
    *at += size;
}

static void restore(struct run *run, uint64_t reg) {
    if (reg < CFI_REGISTERS)
        run->row->registers[reg] = run->first.registers[reg];
}

static int64_t scaled(const struct run *run, int64_t factor) {
    return factor * run->cie->data_align;
}

/* The instructions of what the row says of the CFA. False: not one of them. */
static bool define(struct run *run, uint8_t op, const uint8_t **at) {
    struct cfi_rule *cfa = &run->row->cfa;
    switch (op) {
    case CFA_DEFINE:
        cfa->where = CFI_OFFSET;
        cfa->in = (unsigned)cfi_uleb(at);
        cfa->offset = (int64_t)cfi_uleb(at);
        return true;
    case CFA_DEFINE_SIGNED:
        cfa->where = CFI_OFFSET;
        cfa->in = (unsigned)cfi_uleb(at);
        cfa->offset = scaled(run, cfi_sleb(at));
        return true;
    case CFA_DEFINE_REGISTER:
        cfa->in = (unsigned)cfi_uleb(at);
        return true;
    case CFA_DEFINE_OFFSET:
        cfa->offset = (int64_t)cfi_uleb(at);
        return true;
    case CFA_DEFINE_OFFSET_SIGNED:
        cfa->offset = scaled(run, cfi_sleb(at));
        return true;
    case CFA_DEFINE_EXPRESSION: {
        *cfa = (struct cfi_rule){.where = CFI_COMPUTED, .expression = *at};
        uint64_t size = cfi_uleb(at);
        *at += size;
        return true;
    }
    default:
        return false;
    }
}

/* The instructions of where a register is. */
static bool place(struct run *run, uint8_t op, const uint8_t **at) {
    if (op < CFA_SAVED_EXTENDED || op > CFA_VALUE_EXPRESSION)
        return false;
    const uint8_t *start = *at;
    uint64_t reg = cfi_uleb(at);
    switch (op) {
    case CFA_SAVED_EXTENDED:
        set(run, reg, CFI_SAVED, scaled(run, (int64_t)cfi_uleb(at)));
        return true;
    case CFA_SAVED_SIGNED:
        set(run, reg, CFI_SAVED, scaled(run, cfi_sleb(at)));
        return true;
    case CFA_VALUE_OFFSET:
        set(run, reg, CFI_OFFSET, scaled(run, (int64_t)cfi_uleb(at)));
        return true;
    case CFA_VALUE_OFFSET_SIGNED:
        set(run, reg, CFI_OFFSET, scaled(run, cfi_sleb(at)));
        return true;
    case CFA_RESTORE_EXTENDED:
        restore(run, reg);
        return true;
    case CFA_UNDEFINED:
        set(run, reg, CFI_UNDEFINED, 0);
        return true;
    case CFA_SAME:
        set(run, reg, CFI_SAME, 0);
        return true;
    case CFA_REGISTER:
        set(run, reg, CFI_REGISTER, 0);
        if (reg < CFI_REGISTERS)
            run->row->registers[reg].in = (unsigned)cfi_uleb(at);
        else
            (void)cfi_uleb(at);
        return true;
    case CFA_EXPRESSION:
        set_expression(run, reg, CFI_SAVED_AT, at);
        return true;
    case CFA_VALUE_EXPRESSION:
        set_expression(run, reg, CFI_COMPUTED, at);
        return true;
    default:
        *at = start;
        return false;
    }
}

static bool remember(struct run *run) {
    if (run->remembered_count == REMEMBERED_MAX)
        return false;
    run->remembered[run->remembered_count++] = *run->row;
    return true;
}

static bool recall(struct run *run) {
    if (run->remembered_count == 0)
        return false;
    *run->row = run->remembered[--run->remembered_count];
    return true;
}

/* The rest. False: unknown. */
static bool control(struct run *run, uint8_t op, const uint8_t **at) {
    switch (op) {
    case CFA_NOP:
    case CFA_SIGN_STATE:
        return true;
    case CFA_ARGUMENTS_SIZE:
        (void)cfi_uleb(at);
        return true;
    case CFA_SET_LOCATION:
        return read_pointer(at, run->cie->encoding, &run->location);
    case CFA_ADVANCE_1:
        run->location += READ(uint8_t, at) * run->cie->code_align;
        return true;
    case CFA_ADVANCE_2:
        run->location += READ(uint16_t, at) * run->cie->code_align;
        return true;
    case CFA_ADVANCE_4:
        run->location += READ(uint32_t, at) * run->cie->code_align;
        return true;
    case CFA_REMEMBER:
        return remember(run);
    case CFA_RECALL:
        return recall(run);
    default:
        return false;
    }
}

/* Up to the instruction that speaks of what is behind pc. */
static bool run_until(struct run *run, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        uint8_t op = *at++, low = op & 0x3f;
        switch (op & CFA_HIGH) {
        case CFA_ADVANCE:
            run->location += low * run->cie->code_align;
            break;
        case CFA_SAVED:
            set(run, low, CFI_SAVED, scaled(run, (int64_t)cfi_uleb(&at)));
            break;
        case CFA_RESTORE:
            restore(run, low);
            break;
        default:
            if (!define(run, op, &at) && !place(run, op, &at) && !control(run, op, &at))
                return false;
        }
        if (run->location > run->pc)
            return true;
    }
    return true;
}

bool cfi_find(uintptr_t pc, struct cfi_row *row) {
    struct dl_find_object object;
    union {
        uintptr_t number;
        void *pointer;
    } address = {.number = pc};
    if (_dl_find_object(address.pointer, &object) != 0 || !object.dlfo_eh_frame)
        return false;
    const uint8_t *found = look_up(object.dlfo_eh_frame, pc);
    struct fde fde;
    struct cie cie;
    if (!found || !read_fde(found, pc, &fde, &cie))
        return false;
    *row = (struct cfi_row){.return_register = cie.return_register, .is_signal = cie.is_signal};
    struct run run = {.cie = &cie, .row = row, .location = fde.start, .pc = pc};
    if (!run_until(&run, cie.instructions, cie.end))
        return false;
    run.first = *row;
    return run_until(&run, fde.instructions, fde.end);
}
