// Example client of the removal-plan service: what to remove before an object can be lifted.
//
//   ros2 run amodal_perception planner_client
//   ros2 run amodal_perception planner_client --ros-args -p node:=/arm/left/amodal_perception
//
// Waits for a scene in which one object hides another, takes the most hidden one as target, requests
// a removal plan, prints it and ends. planner_client.py does the same in Python.

#include <chrono>
#include <cstdio>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include <amodal_perception/masks.hpp>
#include <amodal_perception/msg/amodal_scene.hpp>
#include <amodal_perception/srv/get_removal_plan.hpp>
#include <rclcpp/rclcpp.hpp>

using amodal_perception::msg::AmodalInstance;
using amodal_perception::msg::AmodalScene;
using amodal_perception::msg::OcclusionEdge;
using amodal_perception::srv::GetRemovalPlan;
using std::chrono::steady_clock;

struct Settings
{
  std::string node;       // full name of the perception node
  double min_confidence;  // of edges, 0..1
  double timeout_s;       // for a scene
};

/// Return the first scene with an occlusion edge.
AmodalScene::ConstSharedPtr wait_for_scene(
  const rclcpp::Node::SharedPtr & node, const Settings & settings)
{
  const std::string topic = settings.node + "/scene";
  AmodalScene::ConstSharedPtr newest;
  const auto subscription = node->create_subscription<AmodalScene>(
    topic, 1, [&newest](AmodalScene::ConstSharedPtr scene) {newest = scene;});
  const auto deadline = steady_clock::now() + std::chrono::duration<double>(settings.timeout_s);
  rclcpp::executors::SingleThreadedExecutor executor;
  executor.add_node(node);
  while (!newest || newest->edges.empty()) {
    if (!rclcpp::ok()) {
      throw std::runtime_error("interrupted");
    }
    if (steady_clock::now() > deadline) {
      throw std::runtime_error(
              topic + (newest ? ": no object hidden" : ": no scene") + " within the timeout");
    }
    executor.spin_once(std::chrono::milliseconds(100));
  }
  return newest;
}

/// Return the instance with the highest occlusion rate.
const AmodalInstance & choose_target(const AmodalScene & scene)
{
  std::set<std::uint16_t> hidden;
  for (const auto & edge : scene.edges) {
    hidden.insert(edge.occludee_id);
  }
  const AmodalInstance * target = nullptr;
  for (const auto & seen : scene.instances) {
    if (hidden.count(seen.instance_id) &&
      (!target || seen.occlusion_ratio > target->occlusion_ratio))
    {
      target = &seen;
    }
  }
  if (!target) {
    throw std::runtime_error("the scene's edges name no instance of it");
  }
  return *target;
}

/// Call ~/get_removal_plan; instance ids hold within the scene of one stamp.
GetRemovalPlan::Response::SharedPtr ask_for_plan(
  const rclcpp::Node::SharedPtr & node, const Settings & settings, const AmodalScene & scene,
  const AmodalInstance & target)
{
  const std::string name = settings.node + "/get_removal_plan";
  const auto client = node->create_client<GetRemovalPlan>(name);
  if (!client->wait_for_service(std::chrono::seconds(5))) {
    throw std::runtime_error(name + ": nobody offers this service");
  }
  const auto request = std::make_shared<GetRemovalPlan::Request>();
  request->instance_id = target.instance_id;
  request->stamp = scene.header.stamp;
  request->min_confidence = static_cast<float>(settings.min_confidence);
  auto answer = client->async_send_request(request);
  if (rclcpp::spin_until_future_complete(node, answer, std::chrono::seconds(5)) !=
    rclcpp::FutureReturnCode::SUCCESS)
  {
    throw std::runtime_error(name + ": no answer within 5 s");
  }
  const auto plan = answer.get();
  if (!plan->success) {
    throw std::runtime_error(plan->message);
  }
  return plan;
}

void print_edge(const char * before, const OcclusionEdge & edge)
{
  std::printf(
    "%s%u hides %.0f%% of %u (confidence %.2f)\n", before, edge.occluder_id,
    100 * edge.hidden_fraction, edge.occludee_id, edge.confidence);
}

/// Print the plan, and the edges that it follows from.
void print_plan(
  const AmodalScene & scene, const AmodalInstance & target, const GetRemovalPlan::Response & plan)
{
  std::printf(
    "scene %d.%09u: %zu objects\n", scene.header.stamp.sec, scene.header.stamp.nanosec,
    scene.instances.size());
  // Only visible pixels are measured: the rest of the amodal mask is a guess.
  const auto seen = amodal_perception::decode_mask(
    target.visible, scene.image_width, scene.image_height);
  double sum_x = 0, sum_y = 0, count = 0;
  for (std::size_t at = 0; at < seen.size(); ++at) {
    if (seen[at]) {
      sum_x += at % scene.image_width;
      sum_y += at / scene.image_width;
      ++count;
    }
  }
  std::printf(
    "target: object %u (track %s), %.0f%% hidden, seen around pixel (%.0f, %.0f)\n",
    target.instance_id, target.track_id.c_str(), 100 * target.occlusion_ratio, sum_x / count,
    sum_y / count);
  std::size_t number = 0;
  for (; number < plan.remove_first.size(); ++number) {
    std::printf(
      "%zu. take away object %u (track %s)\n", number + 1, plan.remove_first[number],
      plan.remove_first_track_ids[number].c_str());
  }
  std::printf("%zu. lift object %u\n", number + 1, target.instance_id);
  for (const auto & edge : plan.edges) {
    print_edge("because ", edge);
  }
  for (const auto & edge : plan.weak_edges) {
    print_edge("uncertain, not followed: ", edge);
  }
  if (plan.cyclic) {
    std::string members;
    for (const auto member : plan.cycle_members) {
      members += (members.empty() ? "" : ", ") + std::to_string(member);
    }
    std::printf(
      "no order is right among objects %s: they hide each other\n", members.c_str());
  }
}

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  int code = 1;
  try {
    const auto node = rclcpp::Node::make_shared("planner_client");
    const Settings settings{
      node->declare_parameter("node", "/amodal_perception"),
      node->declare_parameter("min_confidence", 0.2),
      node->declare_parameter("timeout", 30.0),
    };
    const auto scene = wait_for_scene(node, settings);
    const auto & target = choose_target(*scene);
    const auto plan = ask_for_plan(node, settings, *scene, target);
    print_plan(*scene, target, *plan);
    code = 0;
  } catch (const std::exception & error) {
    std::fprintf(stderr, "planner_client: %s\n", error.what());
  }
  rclcpp::shutdown();
  return code;
}
