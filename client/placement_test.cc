#include "client/placement.h"

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "client/sample_tensors.h"

namespace reprise::client {
namespace {

constexpr uint32_t kRuns = 100'000;

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> fields;
  std::istringstream stream(text);
  for (std::string field; std::getline(stream, field, separator);) fields.push_back(field);
  return fields;
}

View NodesOf(uint32_t count) {
  View view;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string address = "10.0.0." + std::to_string(i + 1) + ":7070";
    view.nodes.push_back({.id = address, .address = address});
  }
  return view;
}

Digest UnitOf(uint32_t number) {
  return Sha256().Update("unit " + std::to_string(number)).Finish();
}

// Five standard deviations of a binomial count: of a fair hash, one in 1.7 million strays further.
double FarFrom(double share) { return 5 * std::sqrt(kRuns * share * (1 - share)); }

TEST(PlacementTest, EveryVectorOfThePublishedHash) {
  std::ifstream file(REPRISE_PLACEMENT_VECTORS);
  int vectors = 0;
  for (std::string line; std::getline(file, line); ++vectors) {
    const std::vector<std::string> fields = Split(line, ' ');
    ASSERT_EQ(fields.size(), 3u) << line;
    View view;
    for (const std::string& node : Split(fields[1], ',')) {
      const size_t equals = node.rfind('=');
      view.nodes.push_back({.id = node.substr(0, equals),
                            .address = {},
                            .weight = static_cast<uint32_t>(std::stoul(node.substr(equals + 1)))});
    }
    const Replicas all = PlaceUnit(view, Digest::FromHex(fields[0]).value(), 99);
    std::vector<std::string> ids;
    for (const uint32_t node : all) ids.push_back(view.nodes[node].id);
    EXPECT_EQ(ids, Split(fields[2], ',')) << line;
    EXPECT_EQ(PlaceUnit(view, Digest::FromHex(fields[0]).value(), 2),
              Replicas(all.begin(), all.begin() + 2));
  }
  EXPECT_EQ(vectors, 24);
}

TEST(PlacementTest, EveryNodeHasItsShare) {
  const View view = NodesOf(8);
  std::vector<uint32_t> first(8);
  std::vector<uint32_t> second(8);
  for (uint32_t i = 0; i < kRuns; ++i) {
    const Replicas replicas = PlaceUnit(view, UnitOf(i), 2);
    ASSERT_NE(replicas[0], replicas[1]);
    ++first[replicas[0]];
    ++second[replicas[1]];
  }
  for (uint32_t node = 0; node < 8; ++node) {
    EXPECT_NEAR(first[node], kRuns / 8.0, FarFrom(1 / 8.0)) << "node " << node;
    EXPECT_NEAR(second[node], kRuns / 8.0, FarFrom(1 / 8.0)) << "node " << node;
  }
}

TEST(PlacementTest, SharesFollowWeights) {
  View view = NodesOf(3);
  view.nodes[1].weight = 2;
  view.nodes[2].weight = 5;
  std::vector<uint32_t> first(3);
  for (uint32_t i = 0; i < kRuns; ++i) ++first[PlaceUnit(view, UnitOf(i), 1)[0]];
  for (uint32_t node = 0; node < 3; ++node) {
    const double share = view.nodes[node].weight / 8.0;
    EXPECT_NEAR(first[node], kRuns * share, FarFrom(share)) << "node " << node;
  }
}

TEST(PlacementTest, AnAddedNodeTakesItsShareAndNothingElseMoves) {
  const View before = NodesOf(8);
  const View after = NodesOf(9);
  uint32_t moved = 0;
  for (uint32_t i = 0; i < kRuns; ++i) {
    const uint32_t was = PlaceUnit(before, UnitOf(i), 1)[0];
    const uint32_t is = PlaceUnit(after, UnitOf(i), 1)[0];
    if (was == is) continue;
    ASSERT_EQ(is, 8u);
    ++moved;
  }
  EXPECT_NEAR(moved, kRuns / 9.0, FarFrom(1 / 9.0));
}

TEST(PlacementTest, ALostNodesRunsGoToTheirNextReplica) {
  const View all = NodesOf(4);
  for (uint32_t i = 0; i < 1'000; ++i) {
    const Replicas replicas = PlaceUnit(all, UnitOf(i), 3);
    View rest = all;
    rest.nodes.erase(rest.nodes.begin() + replicas[0]);
    EXPECT_EQ(rest.nodes[PlaceUnit(rest, UnitOf(i), 1)[0]].id, all.nodes[replicas[1]].id);
  }
}

TEST(PlacementTest, TheOrderOfTheListDoesNotMatter) {
  const View view = NodesOf(5);
  View shuffled = view;
  std::swap(shuffled.nodes[0], shuffled.nodes[3]);
  std::swap(shuffled.nodes[1], shuffled.nodes[4]);
  for (uint32_t i = 0; i < 1'000; ++i) {
    EXPECT_EQ(view.nodes[PlaceUnit(view, UnitOf(i), 1)[0]].id,
              shuffled.nodes[PlaceUnit(shuffled, UnitOf(i), 1)[0]].id);
  }
}

TEST(PlacementTest, ARunIs32ChunksNamedByTheFirst) {
  const View view = NodesOf(5);
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 70);
  const Placement placement(view, 2, keys);
  for (uint32_t chunk = 0; chunk < 70; ++chunk) {
    EXPECT_EQ(placement.OfChunk(chunk), PlaceUnit(view, keys.prefix_id(chunk / 32 * 32).digest, 2));
  }
}

TEST(PlacementTest, DifferentPrefixesOfOneNamespaceBeginOnDifferentNodes) {
  const View view = NodesOf(4);
  std::set<uint32_t> first;
  for (uint32_t seed = 0; seed < 40; ++seed)
    first.insert(Placement(view, 1, SampleKeys(AttentionNamespace(), 1, seed)).OfChunk(0)[0]);
  EXPECT_EQ(first.size(), 4u);
}

TEST(ViewTest, AListOfStores) {
  const View view = ParseView("10.0.0.1:7070,store-b:71,[::1]:72").value();
  ASSERT_EQ(view.nodes.size(), 3u);
  EXPECT_EQ(view.nodes[1].id, "store-b:71");
  EXPECT_EQ(view.nodes[2].address, "[::1]:72");
  EXPECT_EQ(view.nodes[0].weight, 1u);
}

TEST(ViewTest, WhatIsNoListIsRefused) {
  for (const char* text : {"", "a:1,", ",a:1", "a:1,,b:2", "a:1 ,b", "a:1,b:2,a:1"}) {
    EXPECT_EQ(ParseView(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace reprise::client
