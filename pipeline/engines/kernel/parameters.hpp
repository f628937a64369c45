// The parameters: their places in one padded vector, and copies from and to the flat vector of the pipeline.
//
//   flat     every tensor row by row, one after another, in the order of pipeline.models.parameters
//   padded   the same order, but sizes are rounded up to whole vectors, and heads are padded one by one
//
// The padding of a weight is zero, gets a zero gradient, and so stays zero: no layer has a special case for odd sizes.
// Moments and gradients are vectors of the same two kinds.

#pragma once

#include <vector>

#include "linear.hpp"

namespace {

// A parameter: true sizes and padded sizes; the weight that it is, if any.
struct Tensor {
    long row_groups, rows, padded_rows;
    long column_groups, columns, padded_columns;
    long at;      // in the padded vector
    bool matrix;  // gets weight decay
    Weight* weight;
    long ld() const { return column_groups * padded_columns; }
    long size() const { return row_groups * padded_rows * ld(); }
};

struct Parameters {
    std::vector<Tensor> tensors;
    long size = 0;  // of the padded vector
    float* values;  // the padded vector itself
    float* strip;   // working memory of packing

    // Describe the next tensor; return its place. Sizes are those of one group.
    long add(long row_groups, long rows, long padded_rows, long column_groups, long columns, long padded_columns,
             bool matrix = true) {
        const long at = size;
        tensors.push_back({row_groups, rows, padded_rows, column_groups, columns, padded_columns, at, matrix, nullptr});
        size += tensors.back().size();
        return at;
    }
    long add_vector(const Width& width) { return add(1, 1, 1, 1, width.real, width.padded, false); }
    long add_rows(long rows, const Width& width) { return add(1, rows, rows, 1, width.real, width.padded); }
    // `w` must stay where it is.
    void add_weight(Weight& w, long row_groups, long rows, long padded_rows, long column_groups, long columns,
                    long padded_columns) {
        const long at = add(row_groups, rows, padded_rows, column_groups, columns, padded_columns);
        const auto sum = [](long groups, long real, long padded) {
            return groups == 1 ? whole(real, TILE_ROWS) : groups * padded;
        };
        w.at = at;
        w.inputs = row_groups * padded_rows;
        w.outputs = column_groups * padded_columns;
        w.sum_inputs = sum(row_groups, rows, padded_rows);
        w.sum_outputs = sum(column_groups, columns, padded_columns);
        tensors.back().weight = &w;
    }

    void place_copies(Arena& arena) {
        long widest = 0;
        for (const Tensor& t : tensors)
            if (t.weight) {
                t.weight->place(arena);
                widest = std::max(widest, t.weight->outputs);
            }
        strip = arena.take(COLUMNS * widest);
    }

    // Copy between a flat vector and a padded one.
    void read(const float* padded, float* flat) const {
        for_rows(flat, [&](long at, float* row, long n) { std::memcpy(row, padded + at, n * 4); });
    }
    void write(float* padded, const float* flat) const {
        for_rows(flat, [&](long at, const float* row, long n) { std::memcpy(padded + at, row, n * 4); });
    }

    void pack(const Tensor& t) {
        if (t.weight) t.weight->pack_copies(values, strip);
    }
    void pack_all() {
        for (const Tensor& t : tensors) pack(t);
    }

   private:
    // Call copy(place in the padded vector, place in the flat one, length) for every row of every group.
    template <class Flat, class Copy>
    void for_rows(Flat* flat, const Copy& copy) const {
        for (const Tensor& t : tensors)
            for (long g = 0; g < t.row_groups; g++)
                for (long r = 0; r < t.rows; r++)
                    for (long h = 0; h < t.column_groups; h++, flat += t.columns)
                        copy(t.at + (g * t.padded_rows + r) * t.ld() + h * t.padded_columns, flat, t.columns);
    }
};

}  // namespace
